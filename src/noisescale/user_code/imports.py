"""Imports objects of the user by name, such as "package.module:function"."""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

from noisescale.errors import BadInput, one_line
from noisescale.user_code.containment import contained

_FORM = re.compile(r"(\w+(?:\.\w+)*):(\w+)")


def import_named(reference: str, key: str) -> Any:
    """Import an object by name. Modules in the current folder can be imported, as with `python -m`.

    Args:
        reference: Name of the object, "package.module:name".
        key: The key of the spec or the argument that contains the name, for messages.

    Raises:
        BadInput: The name has another form, the module cannot be imported, or it has no such name.
    """
    form = _FORM.fullmatch(reference)
    if form is None:
        raise BadInput(key, 'a name of the form "package.module:name"', repr(reference))
    module_name, name = form.groups()
    importlib.invalidate_caches()
    try:
        with contained():
            module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        required = f"a module {module_name!r} that can be imported from this folder, or is installed"
        raise BadInput(key, required, one_line(error)) from error
    if not hasattr(module, name):
        raise BadInput(key, f"a name {name!r} in module {module_name!r}", "none")
    return getattr(module, name)


def is_only_in_this_process(module_name: str) -> bool:
    """Return whether no other process can import a module, because it was defined in a notebook or a console.

    Args:
        module_name: Name of the module.
    """
    return module_name == "__main__" and not hasattr(sys.modules["__main__"], "__file__")
