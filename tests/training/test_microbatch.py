"""Gradients that are accumulated over parts of a batch equal those of the whole batch, to 1e-12 in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from noisescale.parameterizations import stream_number
from noisescale.training import PackTrainer
from noisescale.training.microbatches import accumulate, part_seeds, parts_of

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer

TOLERANCE = 1e-12
RESNET: dict[str, Any] = {"family": "resnet", "blocks": "[1]", "width": 4}


def test_the_last_part_may_be_smaller() -> None:
    assert parts_of(8, 3) == [slice(0, 3), slice(3, 6), slice(6, 8)]
    assert parts_of(8, None) == parts_of(8, 8) == parts_of(8, 20) == [slice(0, 8)]


@pytest.mark.parametrize("microbatch", [1, 3, 4, 8])
@pytest.mark.parametrize(
    ("changes", "shape", "kernel"),
    [
        ({}, (7,), "explicit"),
        ({"loss": "mse", "depth": 2, "clip_norm": 0.2}, (7,), "loop"),
        ({**RESNET, "normalization": "layer"}, (1, 6, 6), "vmap"),
        ({**RESNET, "normalization": "layer"}, (1, 6, 6), "loop"),
    ],
)
def test_a_step_over_parts_equals_a_step_over_the_batch(
    changes: dict[str, Any], shape: tuple[int, ...], kernel: str, microbatch: int, make_run: MakeRun,
    make_data: MakeData, make_trainer: MakeTrainer,
) -> None:  # fmt: skip
    whole = make_run(momentum=0.9, weight_decay=0.01, learning_rate=0.02, steps=10, **changes)
    runs = [whole, replace(whole, seed=4)]
    trainers = [
        make_trainer([replace(run, microbatch=size) for run in runs], make_data(shape), kernel=kernel)
        for size in (None, microbatch)
    ]
    for trainer in trainers:
        trainer.advance()
    for name, expected in trainers[0].state.parameters.items():
        torch.testing.assert_close(trainers[1].state.parameters[name], expected, rtol=0, atol=TOLERANCE)
    curves = [trainer.results()[0].curves["train_loss"] for trainer in trainers]
    assert curves[0] == pytest.approx(curves[1], rel=1e-11)


@pytest.mark.parametrize("kernel", ["vmap", "loop"])
def test_ghost_batches_stay_whole_and_move_the_running_statistics_once(
    kernel: str, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    whole = make_run(normalization="ghost_batch", ghost_size=2, learning_rate=0.02, steps=10)
    trainers = [make_trainer([replace(whole, microbatch=b)], make_data(), kernel=kernel) for b in (None, 4)]
    for trainer in trainers:
        trainer.advance()
    for kind in ("parameters", "buffers"):
        expected, actual = (getattr(trainer.state, kind) for trainer in trainers)
        assert expected
        for name, tensor in expected.items():
            torch.testing.assert_close(actual[name], tensor, rtol=0, atol=TOLERANCE)


class Dropout(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(7, width), nn.Dropout(0.5), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.drop(torch.relu(self.first(x))))
        return out


def test_dropout_of_a_part_is_drawn_from_its_seed(make_run: MakeRun, make_data: MakeData) -> None:
    run = make_run(family="own:own", parameterization="own", microbatch=4, steps=10)
    runs, data = [run, replace(run, seed=4)], make_data()
    pack, alone = (
        PackTrainer(some, data, lambda width, *_: Dropout(width), reference_width=32) for some in (runs, runs[1:])
    )
    for trainer in (pack, alone):
        trainer.advance()
    for name, tensor in alone.state.parameters.items():
        torch.testing.assert_close(pack.state.parameters[name][1], tensor[0], rtol=0, atol=TOLERANCE)
    seeds = [part_seeds(runs, 3, part, 2) for part in range(2)]
    assert len({seed for part in seeds for seed in part}) == 4
    assert part_seeds(runs, 3, 0, 1) == [stream_number(each.seed, "forward pass", 3) for each in runs]


def test_a_parameter_counts_as_unused_only_if_no_part_uses_it() -> None:
    unused = iter([{"a": [0, 1], "b": [1]}, {"a": [1], "c": [0]}])

    def compute(inputs: Tensor, targets: Tensor, seeds: object) -> Any:
        return None, {"a": inputs.sum(1)}, next(unused)

    inputs = torch.arange(8.0).view(2, 4)
    _, gradients, idle = accumulate(
        compute,
        {},
        inputs,
        inputs.unsqueeze(2),
        parts_of(4, 3),
        [None, None],
        lambda part, batch: part.shape[1] / batch.shape[1],
    )
    assert idle == {"a": [1]}
    # The parts have the weights 3/4 and 1/4.
    torch.testing.assert_close(gradients["a"], torch.tensor([0.75 * 3 + 0.25 * 3, 0.75 * 15 + 0.25 * 7]))
