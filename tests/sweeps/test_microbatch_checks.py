"""Modules that normalize over a batch are not trained on parts of it, except ghost batches that stay whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps import Grid
from noisescale.sweeps.grid_checks import check_grid

MakeGrid = Callable[..., Grid]
GHOST = {"family": "mlp", "normalization": "ghost_batch", "ghost_size": 4}


@pytest.mark.parametrize(
    ("model", "microbatch", "message"),
    [
        (
            {"family": "mlp", "normalization": "batch"},
            4,
            "at least the batch size 8, because .* normalizes over the batch",
        ),
        (GHOST, 2, "a multiple of the 4 examples"),
        (GHOST, 6, "a multiple of the 4 examples"),
    ],
)
def test_a_part_that_changes_the_statistics_is_refused(
    model: dict[str, Any], microbatch: int, message: str, make_grid: MakeGrid
) -> None:
    grid = make_grid(model=model, grid__batch_size=[8], training__microbatch=microbatch, stability={"seeds": 0})
    with pytest.raises(BadInput, match="training.microbatch.*" + message):
        check_grid(grid)


@pytest.mark.parametrize(
    ("model", "microbatch"),
    [
        ({"family": "mlp", "normalization": "batch"}, 8),
        ({"family": "mlp", "normalization": "layer"}, 3),
        (GHOST, 4),
    ],
)
def test_other_parts_are_accepted(model: dict[str, Any], microbatch: int, make_grid: MakeGrid) -> None:
    grid = make_grid(model=model, grid__batch_size=[8], training__microbatch=microbatch, stability={"seeds": 0})
    check_grid(grid)
    assert {run.microbatch for run in grid.runs()} == {microbatch}


def test_a_ladder_of_batches_is_not_extended_beyond_the_part(make_grid: MakeGrid) -> None:
    model = {"family": "mlp", "normalization": "batch"}
    grid = make_grid(model=model, grid__batch_size=[4, 8], training__microbatch=8, stability={"seeds": 0})
    assert grid.can_train_on(8) and not grid.can_train_on(16)
