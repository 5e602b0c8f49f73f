"""The files that define objects: the modules, the functions and the classes of a namespace, and those of a model."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType

from torch import nn


def classes_of(module: nn.Module) -> list[type]:
    """Return the classes of a module and of its parts, without those of torch.

    Args:
        module: The module.
    """
    classes = dict.fromkeys(base for part in module.modules() for base in type(part).__mro__)
    return [base for base in classes if base.__module__.partition(".")[0] not in ("torch", "builtins")]


def files_of(value: object) -> Iterator[str]:
    """Yield the names of the files that define a module, a function or a class with its methods.

    Args:
        value: Any object. Others have no files.
    """
    if isinstance(value, ModuleType):
        if isinstance(file := getattr(value, "__file__", None), str):
            yield file
    elif isinstance(value, type):
        for base in value.__mro__:
            yield from (code.co_filename for function in functions_of(base) for code in [function.__code__])
    elif (function := plain_function(value)) is not None:
        yield function.__code__.co_filename


def functions_of(cls: type) -> list[FunctionType]:
    """Return the functions that a class defines: methods, static methods and getters of properties.

    Args:
        cls: The class. Its bases do not count.
    """
    values = (value.fget if isinstance(value, property) else value for value in vars(cls).values())
    return [function for function in map(plain_function, values) if function is not None]


def plain_function(value: object) -> FunctionType | None:
    """Return the function behind a method, a decorator or `functools.partial`, or None.

    Args:
        value: Any object.
    """
    while isinstance(value, partial):
        value = value.func
    if isinstance(value, MethodType | staticmethod | classmethod):
        value = value.__func__
    if not isinstance(value, FunctionType):
        return None
    try:
        unwrapped = inspect.unwrap(value)
    except ValueError:  # a wrapper of itself
        return value
    return unwrapped if isinstance(unwrapped, FunctionType) else value


def codes_of(code: CodeType) -> Iterable[CodeType]:
    """Return compiled code and the code of the functions inside.

    Args:
        code: The code.
    """
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return [code, *(nested for constant in inner for nested in codes_of(constant))]
