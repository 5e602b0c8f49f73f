"""Digests of the syntax trees of code: comments, docstrings, the layout and main blocks do not count."""

from __future__ import annotations

import ast
import hashlib


def digest_of(text: str | bytes) -> str:
    """Return the first 16 hexadecimal digits of the digest of a text.

    Args:
        text: Any text or bytes.
    """
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:16]


def parsed(code: str | bytes) -> ast.Module | None:
    """Return the syntax tree of code, or None if this version of Python cannot read it.

    Args:
        code: The code.
    """
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None


def tree_text(node: object) -> str:
    """Write a syntax tree as text that is the same in all versions of Python.

    Args:
        node: A node, or a field of one.
    """
    if isinstance(node, ast.AST):
        fields = [(field, value) for field, value in ast.iter_fields(node) if value not in (None, [])]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            fields = [(field, value[1:] if field == "body" else value) for field, value in fields]
        return f"{type(node).__name__}({','.join(f'{field}={tree_text(value)}' for field, value in fields)})"
    if isinstance(node, list):
        # What runs only if the file is the script does not belong to what it defines.
        node = [entry for entry in node if not _is_main_block(entry)]
        return f"[{','.join(map(tree_text, node))}]"
    return repr(node)


def _is_main_block(node: object) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "'__main__' == __name__")
