"""The modules of the user that a run imports, and digests of their code.

A digest is that of the syntax tree without docstrings. So comments, docstrings and the layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

_SOURCE = Path(__file__).resolve().parents[1]
# Digests of imported modules, by name. The value holds the module's spec, which a reload replaces: a file that is
# edited after its import does not change the code that runs.
_DIGESTS: dict[str, tuple[object, str]] = {}


def code_digests(names: Iterable[str]) -> dict[str, str]:
    """Return the digest of each file of the user that the named modules import, directly or not, by module.

    Args:
        names: Names of imported modules.
    """
    digests: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        path = _user_file(name)
        if name in digests or path is None:
            continue
        try:
            code = path.read_bytes()
        except OSError:  # a file that was removed since its import
            continue
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError, RecursionError):  # a module that is imported only where it can be
            digests[name] = hashlib.sha256(code).hexdigest()[:16]
            continue
        digests[name] = _digest(name, tree)
        waiting += _imports(tree, name, is_package=path.name == "__init__.py")
    return dict(sorted(digests.items()))


def modules_of(*references: str) -> tuple[str, ...]:
    """Return the modules of references such as "package.module:function". Other names are of this package.

    Args:
        references: Names of a model family and of a data set.
    """
    return tuple(dict.fromkeys(reference.partition(":")[0] for reference in references if ":" in reference))


def file_of(name: str) -> str:
    """Return the file of a module, or its name if it has none.

    Args:
        name: Name of the module.
    """
    path = _user_file(name)
    return name if path is None else str(path)


def _user_file(name: str) -> Path | None:
    """Return the source of a module, or None if it is part of Python, of an installed package or of this one."""
    module = sys.modules.get(name)
    file = _file_of_module(module) if module is not None else _file_on_disk(name)
    if file is None or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    return None if any(path.is_relative_to(folder) for folder in _installed()) else path


def _file_of_module(module: ModuleType) -> str | None:
    return getattr(module, "__file__", None)


def _file_on_disk(name: str) -> str | None:
    """Find a module that is not imported, without importing its packages."""
    places: Sequence[str] | None = [os.getcwd(), *sys.path]
    spec = None
    for part in _with_parents(name):
        if places is None:
            return None
        spec = PathFinder.find_spec(part, places)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    return None if spec is None else spec.origin


def _installed() -> list[Path]:
    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return [*(Path(folder).resolve() for folder in folders), _SOURCE]


def _imports(tree: ast.Module, name: str, *, is_package: bool) -> Iterator[str]:
    """Yield the names of the modules that a module may import, with their parents."""
    parents = name.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            # One dot is the module's own package, each further dot the package above.
            kept = len(parents) - node.level + is_package
            base = ".".join([*parents[:kept], *([node.module] if node.module else [])]) if node.level else node.module
            if base:
                yield from _with_parents(base)
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[: length + 1]) for length in range(len(parts)))


def _digest(name: str, tree: ast.Module) -> str:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    known = _DIGESTS.get(name)
    if known is None or known[0] is not spec or spec is None:
        known = _DIGESTS[name] = (spec, hashlib.sha256(_text(tree).encode()).hexdigest()[:16])
    return known[1]


def _text(node: object) -> str:
    """Write a syntax tree as text that is the same in all versions of Python."""
    if isinstance(node, ast.AST):
        fields = [(field, value) for field, value in ast.iter_fields(node) if value not in (None, [])]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            fields = [(field, value[1:] if field == "body" else value) for field, value in fields]
        return f"{type(node).__name__}({','.join(f'{field}={_text(value)}' for field, value in fields)})"
    if isinstance(node, list):
        # What runs only if the file is the script does not belong to what it defines.
        node = [entry for entry in node if not _is_main_block(entry)]
        return f"[{','.join(map(_text, node))}]"
    return repr(node)


def _is_main_block(node: object) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "'__main__' == __name__")
