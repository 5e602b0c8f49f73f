"""A user's data: imports `package.module:function`, calls the function, and checks what it returns."""

from __future__ import annotations

from dataclasses import replace

from noisescale.datasets.dataset import DatasetOptions, RawArrays
from noisescale.datasets.torch_items import read_torch_data
from noisescale.datasets.torch_loaders import is_torch_data
from noisescale.datasets.user_arrays import check_arrays
from noisescale.errors import BadInput, one_line
from noisescale.seeding import seeded
from noisescale.user_code import contained, import_named


def load_user_function(options: DatasetOptions) -> RawArrays:
    """Call the function that `options.name` names, and return its arrays after checking them.

    The function is called without arguments, once in every process that needs the data, with torch's, NumPy's and
    Python's generators at a fixed seed. It must return the same values each time: arrays, or torch data sets, whose
    items are read at the same seed. Modules in the current working directory can be imported.

    Raises:
        BadInput: The module or function is missing or raises an error, or the returned arrays or items cannot be used.
    """
    function = import_named(options.name, "dataset.name")
    if not callable(function):
        raise BadInput("dataset.name", f"{options.name} must be a function that returns arrays", repr(function))
    notes: tuple[str, ...] = ()
    try:
        with contained(), seeded(0):
            returned = function()
            if _is_pair(returned) and all(map(is_torch_data, returned)):
                returned, notes = read_torch_data(options.name, *returned)
    except BadInput:
        raise
    except Exception as error:  # a user's function may raise anything
        raise BadInput("dataset.name", f"{options.name} must return arrays", one_line(error)) from error
    if not (isinstance(returned, tuple | list) and len(returned) == 4):
        got = f"{len(returned)} values" if isinstance(returned, tuple | list) else f"a {type(returned).__name__}"
        arrays = "must return (x_train, y_train, x_test, y_test)"
        raise BadInput(options.name, f"must return (train, test), both torch data sets or loaders, or {arrays}", got)
    x_train, y_train, x_test, y_test = returned
    raw = check_arrays(options.name, x_train, y_train, x_test, y_test, options)
    return replace(raw, notes=(*raw.notes, *notes))


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2
