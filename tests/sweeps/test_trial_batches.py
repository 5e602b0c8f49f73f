"""A sweep finds the batch sizes on which a model can be trained, refuses others, and records them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.families import GhostBatchNorm
from noisescale.laws import recommend
from noisescale.store import AcceptedBatches, Study
from noisescale.sweeps import Grid, SweepSpec, sweep
from noisescale.sweeps.grid_checks import check_grid
from noisescale.sweeps.trial_batches import find_accepted_batches

MakeGrid = Callable[..., Grid]
INPUTS = torch.arange(40.0).view(20, 2)

MODELS = """
import math
from torch import nn

class Pairs(nn.Module):
    def forward(self, x):
        return x.view(x.shape[0] // 4, 4, -1).flatten(0, 1) if self.training else x

def normalized(width, shape, classes):
    first = nn.Linear(math.prod(shape), width)
    return nn.Sequential(nn.Flatten(), first, nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes))

def fours(width, shape, classes):
    first = nn.Linear(math.prod(shape), width)
    return nn.Sequential(nn.Flatten(), Pairs(), first, nn.ReLU(), nn.Linear(width, classes))
"""


@pytest.fixture
def models(user_module: Callable[[str], str]) -> str:
    return user_module(MODELS)


def test_the_smallest_batch_is_found_by_trial() -> None:
    assert find_accepted_batches(lambda: nn.Linear(2, 3), INPUTS, [8]) == AcceptedBatches(1)
    normalized = find_accepted_batches(lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), INPUTS, [8])
    assert (normalized.smallest, normalized.ghost_sizes) == (2, ())
    assert normalized.error.startswith("ValueError: Expected more than 1 value per channel when training")
    assert normalized.fault(2) is None and "at least 2 examples" in str(normalized.fault(1))


def test_ghost_sizes_are_read_from_the_layers() -> None:
    ghosts = find_accepted_batches(lambda: nn.Sequential(nn.Linear(2, 3), GhostBatchNorm(3, 6)), INPUTS, [12])
    assert (ghosts.smallest, ghosts.ghost_sizes) == (2, (6,))
    for size in range(2, 21):
        accepted = size <= 6 or size % 6 == 0
        assert (ghosts.fault(size) is None) == accepted
        layer = GhostBatchNorm(2, 6).train()
        if accepted:
            layer(INPUTS[:size])
        else:
            with pytest.raises(BadInput):
                layer(INPUTS[:size])


def test_a_module_that_accepts_no_batch_is_refused() -> None:
    with pytest.raises(BadInput, match="8, at which the model raises RuntimeError"):
        find_accepted_batches(lambda: nn.Linear(3, 3), INPUTS, [8])


def test_trials_leave_the_random_state() -> None:
    state = torch.get_rng_state()
    find_accepted_batches(lambda: nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.BatchNorm1d(3)), INPUTS, [8])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("model", "changes", "named"),
    [
        ("normalized", {"grid__batch_size": [1, 4]}, r"grid\.batch_size: .*at least 2 examples \(with fewer"),
        (
            "normalized",
            {"stability__seeds": 2, "stability__batch_size": [1, 4]},
            r"stability\.batch_size: .*at least 2",
        ),
        (
            "fours",
            {"grid__batch_size": [4, 6]},
            r"grid\.batch_size: .*can be trained\. Got: 6, at which the model raises",
        ),
    ],
)
def test_a_batch_that_the_module_cannot_run_is_refused_before_training(
    model: str, changes: dict[str, Any], named: str, models: str, make_grid: MakeGrid
) -> None:
    with pytest.raises(BadInput, match=named):
        check_grid(make_grid(model={"family": f"{models}:{model}"}, **changes))


def test_built_in_normalizations_and_the_trial_agree(make_grid: MakeGrid) -> None:
    for normalization, smallest in {"none": 1, "layer": 1, "group": 1, "batch": 2, "ghost_batch": 2}.items():
        grid = make_grid(model={"family": "mlp", "normalization": normalization}, grid__width=[4])
        assert grid.accepted_batches.smallest == smallest
        assert [size for size in range(1, 61) if grid.can_train_on(size)] == list(range(smallest, 61))
    ghosts = make_grid(model={"family": "mlp", "normalization": "ghost_batch", "ghost_size": 8})
    assert ghosts.accepted_batches.ghost_sizes == (8,)
    # Positions make one example enough for torch, but this project asks for two with batch normalization.
    images = make_grid(model={"family": "convnet", "normalization": "batch"})
    assert not images.can_train_on(1) and images.can_train_on(2)


def test_a_ladder_of_batches_is_not_extended_to_a_batch_that_the_module_refuses(
    models: str, make_grid: MakeGrid
) -> None:
    grid = make_grid(model={"family": f"{models}:normalized"}, grid__batch_size=[4, 8])
    assert [size for size in (1, 2, 3) if grid.can_train_on(size)] == [2, 3]


def test_a_sweep_records_what_the_model_accepts_and_a_recommendation_keeps_to_it(
    models: str, make_spec: Callable[..., SweepSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 60 examples in batches of 59 leave a partial batch of one, on which the model is never trained.
    spec = make_spec(
        model={"family": f"{models}:normalized"},
        grid__width=[4, 8],
        grid__batch_size=[2, 59],
        grid__parameterization=["own"],
    )
    study = sweep(spec, tmp_path / "study", quiet=True)
    assert set(study.runs().status) <= {"completed", "diverged"}
    accepted = study.accepted_batches()
    assert accepted is not None and accepted.smallest == 2
    # The record is enough: the module need not exist on the machine that recommends.
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, models, None)
        with pytest.raises(BadInput, match=r"batch_size: .*at least 2 examples .*Expected more than 1 value"):
            recommend(study, width=8, batch_size=1)
        recommendation = recommend(study, width=8)
        assert min(rung.batch_size for rung in recommendation.ladder) == 2
        assert recommend(study, width=8, batch_size=2).batch_size == 2
    (tmp_path / "study" / "model.json").unlink()
    assert sweep(spec, tmp_path / "study", quiet=True).accepted_batches() == accepted


def test_a_study_without_the_record_falls_back(
    models: str, make_spec: Callable[..., SweepSpec], tmp_path: Path
) -> None:
    spec = make_spec(model={"family": f"{models}:normalized"}, grid__width=[4, 8], grid__batch_size=[4, 12])
    study: Study = sweep(spec, tmp_path / "study", quiet=True)
    (tmp_path / "study" / "model.json").unlink()
    assert study.accepted_batches() is None
    assert min(rung.batch_size for rung in recommend(study, width=8).ladder) == 4
