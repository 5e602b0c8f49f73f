"""Every option of SGD gives the same weights as `torch.optim.SGD`, under every parameterization, over 50 steps."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from covering import Case, covering_array, having, name
from plain_loop import train_plain, weights

from noisescale.parameterizations import WITH_BASE_WIDTH
from noisescale.runs import Run
from noisescale.training.schedules import parse_schedule

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer

TOLERANCE = 1e-9
STEPS = 50
WIDTH = 24

OPTIONS: dict[str, tuple[Any, ...]] = {
    "parameterization": ("standard", "ntk", "improved_standard", "mup", "own"),
    "momentum": ("none", "heavy", "nesterov", "mixed"),
    "decay": ("none", "coupled", "decoupled", "independent"),
    "no_decay": ("", "biases"),
    "clip_norm": (None, 0.3),
    "sampling": ("epoch_shuffle", "subset", "with_replacement"),
    "schedule": (
        "constant",
        "constant warmup=0.3",
        "step at=[0.3,0.7]",
        "cosine",
        "linear final=0.1",
        'cyclic cycles=3 form="triangle"',
        "warmup_stable_decay decay=0.4 warmup=0.1",
        "halving",
        "random pieces=4 seed=3",
        'step at=[0.5] factor=0.4 of="batch_size"',
        'cosine of="batch_size" largest_batch=30',
        'cyclic low=0.25 cycles=3 of="batch_size"',
    ),
}


def product() -> list[Case]:
    cases = [dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*OPTIONS.values())]
    for case in cases:
        assert parse_schedule(case["schedule"]).text == case["schedule"]
    return cases


def runs_of(case: Case, make_run: MakeRun) -> list[Run]:
    ntk, name_ = case["parameterization"] == "ntk", case["parameterization"]
    base = make_run(
        parameterization=name_,
        width=WIDTH,
        base_width=16 if name_ in WITH_BASE_WIDTH else None,
        steps=STEPS,
        sampling=case["sampling"],
        schedule=case["schedule"],
        nesterov=case["momentum"] in ("nesterov", "mixed"),
        decay="coupled" if case["decay"] == "none" else case["decay"],
        no_decay=case["no_decay"],
        clip_norm=case["clip_norm"],
    )
    momenta = {"none": (0.0,) * 3, "mixed": (0.0, 0.9, 0.5)}.get(case["momentum"], (0.9, 0.9, 0.8))
    decays = (0.0,) * 3 if case["decay"] == "none" else (0.1, 0.0, 0.3)
    rates = (0.3, 0.1, 0.3) if ntk else (0.03, 0.01, 0.03)
    return [
        replace(base, momentum=momentum, weight_decay=decay, learning_rate=rate, seed=seed)
        for momentum, decay, rate, seed in zip(momenta, decays, rates, (3, 3, 8), strict=True)
    ]


def check(case: Case, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer) -> None:
    dataset, runs = make_data((7,)), runs_of(case, make_run)
    trainer = make_trainer(runs, dataset)
    # Train in several calls, as a trainer with a time limit does. No step may depend on where a call ends.
    for until in (1, 17, 30, STEPS):
        trainer.advance(until)
    for position, run in enumerate(runs):
        plain = weights(train_plain(run, dataset, STEPS))
        for actual, expected in zip(trainer.state.parameters.values(), plain, strict=True):
            assert torch.isfinite(expected).all()
            torch.testing.assert_close(actual[position], expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.short
@pytest.mark.parametrize("case", covering_array(product()), ids=name)
def test_every_pair_of_options_equals_torch(
    case: Case, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    check(case, make_run, make_data, make_trainer)


@pytest.mark.full
@pytest.mark.parametrize("parameterization", OPTIONS["parameterization"])
@pytest.mark.parametrize("schedule", OPTIONS["schedule"])
def test_every_combination_equals_torch(
    parameterization: str, schedule: str, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    for case in having(product(), parameterization=parameterization, schedule=schedule):
        check(case, make_run, make_data, make_trainer)


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.5},
        {"nesterov": True},
        {"decay": "decoupled"},
        {"weight_decay": 0.2},
        {"clip_norm": 0.2},
        {"schedule": "linear"},
        {"schedule": 'linear of="batch_size"'},
        {"sampling": "subset"},
    ],
)
def test_every_option_changes_the_result(
    changes: dict[str, Any], make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    base = make_run(momentum=0.9, weight_decay=0.1, steps=STEPS)
    ends = []
    for run in (base, replace(base, **changes)):
        trainer = make_trainer([run], make_data())
        trainer.advance()
        ends.append(torch.cat([tensor.flatten() for tensor in trainer.state.parameters.values()]))
    assert (ends[0] - ends[1]).norm() > 1e-3 * ends[0].norm()
