"""Tells code of the user from code that is installed: Python's, that of packages, and this package's."""

from __future__ import annotations

import site
import sys
import sysconfig
from functools import cache
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[1]


@cache
def is_installed(path: Path) -> bool:
    """Return whether a file belongs to Python, to an installed package or to this package.

    Args:
        path: Resolved path of a file.
    """
    return any(path.is_relative_to(folder) for folder in _installed())


def is_of_user(module_name: str) -> bool:
    """Return whether a module is code of the user, also if it has no file, as in a notebook.

    Args:
        module_name: Name of the module, as classes and functions give it.
    """
    file = getattr(sys.modules.get(module_name), "__file__", None)
    if file is None:
        return module_name.partition(".")[0] not in sys.stdlib_module_names
    return not is_installed(_resolved(file))


@cache
def _resolved(file: str) -> Path:
    return Path(file).resolve()


@cache
def _installed() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return (*(Path(folder).resolve() for folder in folders), _SOURCE)
