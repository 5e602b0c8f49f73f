"""Digests of code that is in no file, because it was defined in a notebook, in a console or by `exec`.

A digest is that of the source where Python still has it, and else of the compiled code. What the code refers to in its
session counts too: functions, classes and plain values.
"""

from __future__ import annotations

import dis
import inspect
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType

from noisescale.sweeps.reached_code import codes_of, functions_of, plain_function
from noisescale.sweeps.syntax_digest import digest_of, parsed, tree_text

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def session_digests(objects: Iterable[object]) -> dict[str, str]:
    """Return a digest of each function and class without a file that the objects are or refer to, by a description.

    Args:
        objects: Functions and classes. Those with a file do not count.
    """
    texts: dict[str, list[str]] = {}
    visited: set[int] = set()
    waiting = list(objects)
    while waiting:
        value = waiting.pop()
        value = value if isinstance(value, type) else plain_function(value)
        if value is None or id(value) in visited or not _is_of_session(value):
            continue
        visited.add(id(value))
        functions = functions_of(value) if isinstance(value, type) else [value]
        text = [_attributes(value)] if isinstance(value, type) else []
        for function in functions:
            references = dict(_references(function))
            plain = {name: repr(entry) for name, entry in references.items() if _is_plain(entry)}
            text += [_text(function), repr(sorted(plain.items()))]
            waiting += references.values()
        waiting += value.__mro__ if isinstance(value, type) else []
        texts.setdefault(f"{value.__qualname__} (defined in this session)", []).append("\n".join(text))
    return {name: digest_of("\n".join(sorted(parts))) for name, parts in texts.items()}


def _is_of_session(value: type | FunctionType) -> bool:
    """Return whether something was defined in no file."""
    module = sys.modules.get(value.__module__)
    functions = functions_of(value) if isinstance(value, type) else [value]
    in_file = any(os.path.isfile(function.__code__.co_filename) for function in functions)
    return not in_file and not hasattr(module, "__file__") and value.__module__ not in sys.builtin_module_names


def _attributes(cls: type) -> str:
    plain = {name: repr(value) for name, value in vars(cls).items() if _is_plain(value) and not name.startswith("__")}
    return repr([[base.__qualname__ for base in cls.__mro__], sorted(plain.items())])


def _text(function: FunctionType) -> str:
    try:
        tree = parsed(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        tree = None
    # A lambda may be a part of a line that is no statement.
    if tree is not None and function.__name__ != "<lambda>":
        return tree_text(tree)
    return "\n".join(map(_compiled, codes_of(function.__code__)))


def _compiled(code: CodeType) -> str:
    constants = [value for value in code.co_consts if not isinstance(value, CodeType)]
    return repr([code.co_code, constants, code.co_names, code.co_varnames])


def _references(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield what a function takes from outside: globals that it does not set, its closure and its defaults."""
    for code in codes_of(function.__code__):
        steps = list(dis.get_instructions(code))
        changed = {step.argval for step in steps if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")}
        for name in {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")} - changed:
            if name in function.__globals__:
                yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not set yet
            continue
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    yield from ((f"default {index}", value) for index, value in enumerate(defaults))


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, [*value.keys(), *value.values()]))
    return all(map(_is_plain, value)) if isinstance(value, list | tuple) else isinstance(value, _PLAIN)
