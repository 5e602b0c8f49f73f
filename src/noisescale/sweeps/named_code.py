"""The modules and files that code names: in import statements, in calls that import, and in paths of Python files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_IMPORTING = ("import_module", "__import__")


def imported_names(tree: ast.Module, name: str, path: Path) -> Iterator[str]:
    """Yield the names of the modules that a module may import, with their parents.

    A package that imports computed names, such as all of its plugins, may import each of its submodules.

    Args:
        tree: The syntax tree of the module.
        name: Name of the module, to which relative imports refer.
        path: Its file.
    """
    is_package = path.name == "__init__.py"
    parents = name.split(".")
    # One dot is the module's own package, each further dot the package above.
    package = parents if is_package else parents[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            if base:
                yield from with_parents(base)
                yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and _called(node) in _IMPORTING:
            imported = node.args[0]
            if isinstance(imported, ast.Constant) and isinstance(imported.value, str):
                yield from with_parents(_absolute(imported.value, package))
            elif is_package:
                files = [*path.parent.glob("*.py"), *(folder.parent for folder in path.parent.glob("*/__init__.py"))]
                yield from (f"{name}.{file.stem}" for file in sorted(files) if file != path)


def named_files(tree: ast.Module, folders: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the files of Python code whose paths are texts in the code. They may be loaded by path.

    Args:
        tree: The syntax tree.
        folders: Folders to which a path may be relative.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".py"):
            for folder in folders:
                path = _file(folder, node.value)
                if path is not None:
                    yield path
                    break


def with_parents(name: str) -> Iterator[str]:
    """Yield the names of a module's packages, outermost first, and its name.

    Args:
        name: Name of a module.
    """
    parts = name.split(".")
    yield from (".".join(parts[: length + 1]) for length in range(len(parts)))


def _absolute(name: str, package: list[str]) -> str:
    """Return the full name of a module that is named relative to a package, as in `..parts`."""
    module = name.lstrip(".")
    level = len(name) - len(module)
    if not level:
        return module
    return ".".join([*package[: len(package) - level + 1], *([module] if module else [])])


def _called(call: ast.Call) -> str:
    function = call.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _file(folder: Path, text: str) -> Path | None:
    try:
        path = (folder / text).resolve()
        return path if path.is_file() else None
    except (OSError, ValueError):  # a text that is no path
        return None
