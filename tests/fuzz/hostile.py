"""Pickles of small values, and pickles that leave a mark in the working folder if they are executed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from running import MARK


class Executes:
    """An object whose pickle calls a function when it is read.

    Args:
        function: The function.
        arguments: Its arguments.
    """

    def __init__(self, function: Callable[..., Any] = os.mkdir, *arguments: Any) -> None:
        self.call = function, arguments or (MARK,)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


CALLS: tuple[tuple[Callable[..., Any], str], ...] = (
    (os.mkdir, MARK),
    (os.system, f"touch {MARK}"),
    (eval, f"__import__('os').mkdir({MARK!r})"),
    (exec, f"open({MARK!r}, 'w')"),
    (np.save, MARK),
)

# Global names, written as opcodes of a pickle. No ordinary class leads to these.
_GLOBAL = b"c%s\n%s\n(S'" + MARK.encode() + b"'\ntR."
OPCODES = [
    _GLOBAL % (module, name)
    for module, name in (
        (b"os", b"mkdir"),
        (b"posix", b"mkdir"),
        (b"builtins", b"open"),
        (b"numpy", b"ndarray.tofile"),
        (b"numpy", b"load"),
        (b"numpy.core.multiarray", b"_reconstruct"),
        (b"numpy", b"dtype"),
        (b"torch", b"load"),
        (b"noisescale.cli", b"main"),
    )
]
# Declared lengths that exceed any memory, and containers that contain themselves.
MONSTERS = [
    b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.",
    b"\x80\x04\x8b" + (2**31 - 1).to_bytes(4, "little") + b"x.",
    b"\x80\x02]q\x00h\x00a.",
    b"\x80\x02}q\x00X\x04\x00\x00\x00datah\x00s.",
    b"\x80\x04" + b"(" * 100_000 + b"t" * 100_000 + b".",
    b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
    b"\x80\x04cnumpy\nndarray\n(J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86tR.",
    b"",
    b".",
    b"N.",
]

SHAPES = st.sampled_from([(), (0,), (1,), (2, 3072), (0, 3072), (2, 3071), (3, 2, 2), (1, 1, 1, 1, 1)])
DTYPES = st.sampled_from(["u1", "i8", "f4", "f8", "c8", "U3", "S2", "O", "M8[s]", "?", "V4", "i4,f4"])
ARRAYS = st.builds(lambda shape, dtype: np.zeros(shape, dtype), SHAPES, DTYPES)
PICKLED_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 12), st.floats(), st.binary(max_size=4), st.text(max_size=4), ARRAYS,
        st.sampled_from([10**400, np.float32(3), np.int64(3)]),
        st.sampled_from(CALLS).map(lambda call: Executes(*call)),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.binary(max_size=3), inner),
    max_leaves=4,
)  # fmt: skip
PROTOCOLS = st.integers(0, 5)


def pickled(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Draw pickles of these values with every protocol."""
    return st.builds(lambda value, protocol: pickle.dumps(value, protocol=protocol), values, PROTOCOLS)


PICKLES = st.one_of(pickled(PICKLED_VALUES), st.sampled_from(OPCODES), st.sampled_from(MONSTERS))
