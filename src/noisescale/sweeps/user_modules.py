"""The files of the user that a run imports, and digests of their code.

They are found from the names in the code and from the objects of its modules, not from what a process has imported. So
every worker finds the same files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from noisescale.sweeps.named_code import imported_names, named_files, with_parents
from noisescale.sweeps.reached_code import files_of
from noisescale.sweeps.syntax_digest import digest_of, parsed, tree_text
from noisescale.user_code import is_installed

# Digests of imported modules, by name. The value holds the module's spec, which a reload replaces: a file that is
# edited after its import does not change the code that runs.
_DIGESTS: dict[str, tuple[object, str]] = {}


def code_digests(names: Iterable[str], objects: Iterable[object] = ()) -> dict[str, str]:
    """Return the digest of each file of the user that modules and objects come from, or that these import.

    Args:
        names: Names of imported modules.
        objects: Functions and classes, such as the classes of a model.

    Returns:
        Digests by the name of the module; by path, relative to the folder of the first module, for a file that no name
        leads to.
    """
    names = list(names)
    root = _root(names)
    digests: dict[str, str] = {}
    # Python imports the packages of a module first.
    waiting: list[str | Path] = [*(part for name in names for part in with_parents(name)), *_user_files(objects)]
    seen: set[Path] = set()
    namespaces: set[int] = set()
    while waiting:
        # Names first, so that a file has the same key whatever else has been imported.
        entry = waiting.pop(next((index for index, entry in enumerate(waiting) if isinstance(entry, str)), 0))
        name, path = (entry, _user_file(entry)) if isinstance(entry, str) else (_relative(entry, root), entry)
        if name in digests or path is None or (isinstance(entry, Path) and path in seen):
            continue
        seen.add(path)
        try:
            code = path.read_bytes()
        except OSError:  # a file that was removed since its import
            continue
        tree = parsed(code)
        if tree is None:  # a module that is imported only where it can be
            digests[name] = digest_of(code)
            continue
        text = tree_text(tree)
        digests[name] = _digest(name, text) if isinstance(entry, str) else digest_of(text)
        full_name = _full_name(name) if isinstance(entry, str) else path.stem
        waiting += imported_names(tree, full_name, path)
        waiting += [file for file in named_files(tree, (path.parent, Path.cwd())) if _is_users(file)]
        if isinstance(entry, str) and (module := sys.modules.get(name)) is not None:
            waiting += _user_files(_namespace(module, namespaces))
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
        name: Name of the module, or a key of a file without one.
    """
    path = None if name.endswith(".py") else _user_file(name)
    return name if path is None else str(path)


def is_path(name: str) -> bool:
    """Return whether a key of `code_digests` is that of a file that no name leads to.

    Args:
        name: The key.
    """
    return name.endswith(".py")


def _user_file(name: str) -> Path | None:
    """Return the source of a module, or None if it is part of Python, of an installed package or of this one."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None) if module is not None else _file_on_disk(name)
    if file is None or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    return path if _is_users(path) else None


def _file_on_disk(name: str) -> str | None:
    """Find a module that is not imported, without importing its packages."""
    places: Sequence[str] | None = [os.getcwd(), *sys.path]
    spec = None
    for part in with_parents(name):
        if places is None:
            return None
        spec = PathFinder.find_spec(part, places)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    return None if spec is None else spec.origin


def _namespace(module: ModuleType, visited: set[int]) -> list[object]:
    """Return what a module of the user holds, with what the modules hold that it has loaded without an import."""
    if id(module) in visited:
        return []
    visited.add(id(module))
    # A package holds every submodule that anything has imported, which differs between processes.
    values = [
        value
        for name, value in vars(module).items()
        if not (isinstance(value, ModuleType) and value.__name__ == f"{module.__name__}.{name}")
    ]
    inner = (value for value in values if isinstance(value, ModuleType) and _user_files([value]))
    return [*values, *(entry for value in inner for entry in _namespace(value, visited))]


def _user_files(objects: Iterable[object]) -> list[Path]:
    names = dict.fromkeys(name for value in objects for name in files_of(value))
    return [path for name in names if (path := _user_path(name)) is not None]


@cache
def _user_path(file: str) -> Path | None:
    path = Path(file)
    # Compiled text that comes from no file has another name, such as "<string>".
    if not file.endswith(".py") or not path.is_file():
        return None
    path = path.resolve()
    return path if _is_users(path) else None


def _is_users(path: Path) -> bool:
    return not is_installed(path)


def _root(names: Sequence[str]) -> Path:
    """Return the folder from which the first module is imported."""
    for name in names:
        if (path := _user_file(name)) is not None:
            levels = _full_name(name).count(".") + (path.name == "__init__.py")
            return path.parents[min(levels, len(path.parents) - 1)]
    return Path.cwd()


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _full_name(name: str) -> str:
    """Return the name by which others import a module. A script that `python -m` runs has one of its own."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec.name if name == "__main__" and spec is not None else name


def _digest(name: str, text: str) -> str:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    known = _DIGESTS.get(name)
    if known is None or known[0] is not spec or spec is None:
        known = _DIGESTS[name] = (spec, digest_of(text))
    return known[1]
