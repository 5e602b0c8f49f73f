from __future__ import annotations

import builtins
import collections
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisescale.datasets.restricted_pickle import load_restricted_pickle
from noisescale.errors import BadInput

PATH = Path("data_batch_1")


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_in_plain_containers_are_read(protocol: int) -> None:
    held = {b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [1, 2], "more": (None, 0.5, ["x"])}
    read = load_restricted_pickle(pickle.dumps(held, protocol=protocol), PATH)
    np.testing.assert_array_equal(read.pop(b"data"), held.pop(b"data"))
    assert read == {b"labels": [1, 2], "more": (None, 0.5, ["x"])}


class Calls:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, rf"{os.name}\.system"),
        (builtins.eval, r"(builtins|__builtin__)\.eval"),
        (builtins.getattr, r"(builtins|__builtin__)\.getattr"),
        (np.load, r"numpy\.load"),
        (collections.OrderedDict, r"collections\.OrderedDict"),
    ],
)
def test_a_pickle_that_calls_a_function_is_refused_by_the_name_of_the_function(
    function: Callable[..., Any], name: str, protocol: int, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps({"data": Calls(function, f"touch {trace}")}, protocol=protocol)
    with pytest.raises(BadInput, match=rf"data_batch_1: .*a reference to {name}\.$"):
        load_restricted_pickle(content, PATH)
    assert not trace.exists()


def test_a_function_cannot_be_reached_through_an_admitted_class() -> None:
    content = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    with pytest.raises(BadInput, match=r"numpy\.ndarray\.tofile"):
        load_restricted_pickle(content, PATH)


@given(content=st.binary(max_size=50))
def test_any_bytes_are_read_or_refused_by_the_file_name(content: bytes) -> None:
    try:
        load_restricted_pickle(content, PATH)
    except BadInput as refused:
        assert refused.name == str(PATH)
