"""A user's data: imports `package.module:function`, calls the function, and checks the arrays that it returns."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from noisescale.datasets.dataset import DatasetOptions, RawArrays
from noisescale.datasets.user_arrays import check_arrays
from noisescale.errors import BadInput


def load_user_function(options: DatasetOptions) -> RawArrays:
    """Call the function that `options.name` names, and return its arrays after checking them.

    The function is called without arguments, once in every process that needs the data. It must return the same values
    each time. Modules in the current working directory can be imported.

    Raises:
        BadInput: The module or function is missing or raises an error, or the returned arrays cannot be used.
    """
    with _working_directory_importable():
        function = _import_function(options.name)
        try:
            returned = function()
        except Exception as error:
            raise BadInput("dataset.name", f"{options.name} must return arrays", _one_line(error)) from error
    if not (isinstance(returned, tuple | list) and len(returned) == 4):
        got = f"{len(returned)} values" if isinstance(returned, tuple | list) else f"a {type(returned).__name__}"
        raise BadInput(options.name, "must return (x_train, y_train, x_test, y_test)", got)
    return check_arrays(options.name, *returned)


def _import_function(name: str) -> Callable[[], Any]:
    form = re.fullmatch(r"(\w+(?:\.\w+)*):(\w+)", name)
    if form is None:
        raise BadInput("dataset.name", 'must name your function as "package.module:function"', repr(name))
    module_name, function_name = form.groups()
    try:
        importlib.invalidate_caches()
        module = importlib.import_module(module_name)
    except Exception as error:
        required = f"the module {module_name} must be importable from the current folder or the environment"
        raise BadInput("dataset.name", required, _one_line(error)) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        got = "no such name" if not hasattr(module, function_name) else f"a {type(function).__name__}"
        raise BadInput("dataset.name", f"{module_name} must have a function {function_name}", got)
    return function  # type: ignore[no-any-return]


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Put the working directory first in Python's module search path, for this import and for imports in the call."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
