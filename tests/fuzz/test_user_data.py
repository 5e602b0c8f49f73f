"""Arbitrary arrays from a user's function or file, and arbitrary checkpoints of weights."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import DAMAGES, Damage
from hostile import PICKLES, Executes
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from running import MARK, Answer, run, sizes, try_many

SPEC, OUT = "user-spec.toml", "user-out"
MODULE = """
import numpy as np
import torch
from torch import nn

returned_arrays = None

def arrays():
    return returned_arrays

def from_file():
    with open("arrays.npz", "rb") as file, np.load(file) as arrays:
        return tuple(arrays[name] for name in ("a", "b", "c", "d"))

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))
"""


@pytest.fixture(autouse=True)
def user_module_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (folder / "user_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    __import__("user_module")
    yield
    del sys.modules["user_module"]


def dry_run(loss: str, function: str) -> Answer:
    metric = "accuracy" if loss == "cross_entropy" else "loss"
    Path(SPEC).write_text(
        f'name = "user data"\nseeds = 1\n[dataset]\nname = "user_module:{function}"\n[model]\nfamily = "mlp"\n'
        "[grid]\nwidth = [2]\nbatch_size = [1]\nlearning_rate = [0.5]\n[stability]\nseeds = 0\n"
        f'[training]\nsteps = 2\nevaluations = 2\nloss = "{loss}"\n[fit]\nmetric = "{metric}"\n'
    )
    answer = run("sweep", SPEC, "--out", OUT, "--dry-run")
    assert answer.refused or (answer.code, answer.err) == (0, ""), answer
    assert not Path(OUT).exists() and not Path(MARK).exists()
    return answer


@dataclass(frozen=True)
class ArrayRecipe:
    """The recipe of an array, which makes a failing case readable.

    Args:
        kind: "array", "tensor", "list", "sparse", "endless" (declares a size that exceeds any memory) or "mapped" (not
            contiguous).
        shape: The shape.
        dtype: The dtype.
        fill: The value of every entry except the first, which is 1.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    fill: Any

    def build(self) -> Any:
        with np.errstate(all="ignore"):
            try:
                array = np.full(self.shape, self.fill).astype(self.dtype)
            except (ValueError, TypeError, OverflowError):
                array = np.zeros(self.shape, self.dtype)
        if array.size and self.dtype != "O":
            array.flat[0] = np.ones(1, self.dtype)[0]
        if self.kind == "tensor" and array.dtype.kind in "iufbc":
            return torch.from_numpy(array)
        if self.kind == "sparse" and array.dtype.kind in "f" and array.ndim:
            return torch.from_numpy(array).to_sparse()
        if self.kind == "endless" and array.ndim:
            return as_strided(array, (2**50, *array.shape[1:]), (0,) * array.ndim)
        return array.tolist() if self.kind == "list" else array.T if self.kind == "mapped" else array


SHAPES = st.sampled_from(
    [(4, 3), (4, 3), (4,), (4,), (2, 3), (0, 3), (0,), (), (4, 0), (4, 1, 5, 5), (4, 3, 2), (4, 2)]
)
DTYPES = st.sampled_from(["f4", "f4", "i8", "i8", "f8", "f2", "u1", "?", "O", "U2", "c8", "M8[s]", "V3", "i4,f4"])
FILLS = st.sampled_from([0, 0, 1, 2, -1, 10**6, 2**62, 1e30, 1e300, float("nan"), float("inf")])
KINDS = st.sampled_from(["array"] * 6 + ["tensor", "list", "sparse", "endless", "mapped"])
RECIPES = st.builds(ArrayRecipe, KINDS, SHAPES, DTYPES, FILLS)
GOOD = st.sampled_from(
    [
        [ArrayRecipe("array", (4, 3), "f4", 0), ArrayRecipe("array", (4,), "i8", 0)] * 2,
        [ArrayRecipe("tensor", (4, 1, 5, 5), "u1", 0), ArrayRecipe("tensor", (4,), "i8", 0)] * 2,
        [ArrayRecipe("array", (4, 3), "f8", 0), ArrayRecipe("array", (4, 2), "f4", 0)] * 2,
    ]
)
# In most draws a single array of four is wrong.
RETURNED: st.SearchStrategy[list[ArrayRecipe]] = st.one_of(
    st.builds(lambda good, index, other: good[:index] + [other] + good[index + 1 :], GOOD, st.integers(0, 3), RECIPES),
    st.lists(RECIPES, max_size=5),
)
LOSSES = st.sampled_from(["cross_entropy", "mse"])


@sizes("arrays")
def test_arrays_from_a_user_function(count: int) -> None:
    def check(case: tuple[str, list[ArrayRecipe]]) -> None:
        loss, returned = case
        sys.modules["user_module"].returned_arrays = tuple(recipe.build() for recipe in returned)  # type: ignore[attr-defined]
        dry_run(loss, "arrays")

    try_many(count, st.tuples(LOSSES, RETURNED), check)


@sizes("array file")
def test_arrays_from_a_user_file(count: int) -> None:
    """The file is read with the defaults of numpy, which execute no pickle."""

    def check(case: tuple[list[ArrayRecipe], Damage | None]) -> None:
        returned, damage = case
        arrays = {name: np.asarray(recipe.build()) for name, recipe in zip("abcd", returned, strict=False)}
        for array in arrays.values():
            if array.dtype == object:
                array[...] = Executes()
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        Path("arrays.npz").write_bytes(damage.apply(buffer.getvalue()) if damage else buffer.getvalue())
        dry_run("cross_entropy", "from_file")

    plain = RETURNED.filter(lambda returned: all(recipe.kind == "array" for recipe in returned))
    try_many(count, st.tuples(plain, st.none() | DAMAGES), check)


NAMES = st.sampled_from(["0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "", "a.b", "0"])
TENSORS = st.builds(
    lambda shape, dtype: torch.zeros(shape, dtype=dtype),
    st.sampled_from([(2, 3), (2,), (2, 2), (), (0,), (3, 2)]),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64, torch.bfloat16]),
)
STATES = st.one_of(
    st.dictionaries(NAMES, TENSORS, max_size=4),
    st.dictionaries(st.one_of(NAMES, st.integers(0, 3), st.none()), TENSORS | st.integers() | st.text(), max_size=3),
    st.lists(TENSORS, max_size=2),
    TENSORS,
)


def saved(value: Any, old_format: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not old_format)
    return buffer.getvalue()


@sizes("weights")
def test_a_checkpoint_of_weights(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is loaded or refused. The test does not measure anything with it."""
    module = sys.modules["user_module"]
    intact = {old: saved(module.model.state_dict(), old) for old in (False, True)}
    monkeypatch.setattr("noisescale.measure.measure_model", _loaded)

    def check(case: bytes | tuple[Damage, bool]) -> None:
        content = case if isinstance(case, bytes) else case[0].apply(intact[case[1]])
        Path("weights.pt").write_bytes(content)
        sys.modules["user_module"].returned_arrays = _users_data()  # type: ignore[attr-defined]
        answer = run("measure", "user_module:model", "--data", "user_module:arrays", "--checkpoint", "weights.pt")
        assert answer.refused and ("weights.pt" in answer.err or "loaded" in answer.err), answer
        assert not Path(MARK).exists()

    damaged = st.tuples(DAMAGES, st.booleans())
    try_many(count, st.one_of(damaged, damaged, PICKLES, st.builds(saved, STATES, st.booleans())), check)


def _users_data() -> tuple[Any, ...]:
    inputs = np.random.default_rng(0).standard_normal((16, 3)).astype("f4")
    labels = np.arange(16) % 2
    return inputs, labels, inputs, labels


def _loaded(*arguments: Any, **options: Any) -> None:
    from noisescale.errors import BadInput

    raise BadInput("loaded", "no measurement")


@sizes("measured weights")
def test_extreme_weights_are_measured_or_refused(count: int) -> None:
    """Extreme and infinite weights are measured or refused by name, and the output stays valid JSON."""
    values = st.sampled_from([0.0, 1e-30, 1.0, 1e18, 1e38, float("nan"), float("inf")])

    def check(fills: list[float]) -> None:
        module = sys.modules["user_module"]
        state = module.model.state_dict()
        filled = {name: torch.full_like(state[name], fill) for name, fill in zip(state, fills, strict=True)}
        torch.save(filled, "weights.pt")
        module.returned_arrays = _users_data()  # type: ignore[attr-defined]
        answer = run(
            "measure", "user_module:model", "--data", "user_module:arrays", "--checkpoint", "weights.pt", "--json"
        )
        assert answer.refused or json.loads(answer.out)["examples"] == 16

    try_many(count, st.lists(values, min_size=4, max_size=4), check)
