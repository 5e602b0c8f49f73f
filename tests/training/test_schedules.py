"""The values of schedules compared with torch's schedulers, and the batch sizes that follow from schedules."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, Optimizer, lr_scheduler

from noisescale.errors import BadInput
from noisescale.runs import Run
from noisescale.training.batches import ConstantBatches, MovingBatches, batches_of, rate_factor_at
from noisescale.training.schedules import SCHEDULES, Schedule, parse_schedule, schedule_from

if TYPE_CHECKING:
    from conftest import MakeRun

STEPS = 40
TABLES: list[dict[str, Any]] = [
    {"kind": "constant"},
    {"kind": "step", "at": [0.25, 0.6], "factor": 0.5},
    {"kind": "cosine", "final": 0.1},
    {"kind": "linear"},
    {"kind": "cyclic", "low": 0.25, "cycles": 4},
    {"kind": "cyclic", "low": 0.25, "cycles": 4, "form": "triangle"},
    {"kind": "halving"},
    {"kind": "random", "pieces": 3, "seed": 7},
    {"kind": "step", "warmup": 0.2},
    {"kind": "cosine", "of": "batch_size", "largest_batch": 48},
    {"kind": "warmup_stable_decay", "warmup": 0.25, "decay": 0.5, "final": 0.1},
    {"kind": "cosine", "warmup": 0.25},
    {"kind": "linear", "warmup": 0.25, "after_warmup": False},
]


def of_torch(make: Callable[[Optimizer], Any]) -> list[float]:
    """Return the rates of a torch scheduler at every step, for a peak rate of 1."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The optimizer takes no step, because only the rates are needed.
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("table", "scheduler"),
    [
        (TABLES[1], lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [10, 24], 0.5)),
        (TABLES[2], lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, STEPS, eta_min=0.1)),
        (TABLES[3], lambda optimizer: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)),
        (TABLES[5], lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.25, 1.0, STEPS // 8, cycle_momentum=False)),
        ({"kind": "constant", "warmup": 0.25}, lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 9)),
        # Ten steps of the rise, ten steps at 1, and twenty steps of the fall.
        (
            TABLES[10],
            lambda optimizer: lr_scheduler.SequentialLR(
                optimizer,
                [
                    lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 9),
                    lr_scheduler.ConstantLR(optimizer, 1.0, 1),
                    lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 20),
                ],
                [10, 20],
            ),
        ),
        # Twenty steps at 1, then a halving every two steps, as the paper describes the schedule.
        (TABLES[6], lambda optimizer: lr_scheduler.MultiStepLR(optimizer, list(range(20, 40, 2)), 0.5)),
    ],
)
def test_rates_equal_those_of_torchs_schedulers(table: dict[str, Any], scheduler: Callable[[Optimizer], Any]) -> None:
    schedule = schedule_from(table)
    actual = [schedule.warmed(step / STEPS, STEPS) for step in range(STEPS)]
    np.testing.assert_allclose(actual, of_torch(scheduler), rtol=1e-12, atol=1e-15)


def test_a_square_cycle_is_high_then_low() -> None:
    schedule = schedule_from(TABLES[4])
    assert [schedule.rate_factor(step / STEPS) for step in range(STEPS)] == ([1.0] * 5 + [0.25] * 5) * 4


def test_random_pieces_differ_by_seed_in_rate_and_decay_and_end_alike() -> None:
    first, second = (schedule_from({"kind": "random", "pieces": 4, "low": 0.1, "seed": seed}) for seed in (1, 2))
    pieces = [[s.rate_factor(x) for x in np.arange(0, 0.5, 0.125)] for s in (first, second)]
    assert len({*pieces[0], *pieces[1]}) == 8 and min(map(min, pieces)) >= 0.1
    assert first.rate_factor(0.3) == first.rate_factor(0.37) != first.decay_factor(0.3)
    for schedule in (first, second):
        assert (schedule.rate_factor(0.5), schedule.decay_factor(0.9)) == (1.0, 1.0)
    # The factors are log-uniform, so the mean of their logarithms is half of log 0.1.
    many = schedule_from({"kind": "random", "pieces": 1000, "until": 1.0, "low": 0.1})
    logs = [math.log(many.rate_factor((place + 0.5) / 1000)) for place in range(1000)]
    assert abs(np.mean(logs) - math.log(0.1) / 2) < 4 * math.log(10) / math.sqrt(12 * 1000)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: "-".join(map(str, table.values())))
def test_a_schedule_can_be_read_back_from_its_text_and_its_table(table: dict[str, Any]) -> None:
    schedule = schedule_from(table)
    assert parse_schedule(schedule.text) == schedule_from(schedule.table) == schedule
    assert schedule.text.split(" ")[0] == table["kind"]


@given(st.sampled_from(list(SCHEDULES)), st.floats(0, 1), st.floats(0, 0.9))
def test_every_factor_lies_between_0_and_1(kind: str, progress: float, warmup: float) -> None:
    decay = {"decay": 0.1} if kind == "warmup_stable_decay" else {}
    schedule = schedule_from({"kind": kind, "warmup": warmup, **decay})
    assert 0 <= schedule.warmed(progress, 100) <= 1
    assert 0 < schedule.decay_factor(progress) <= 1


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"kind": "stepp"}, "did you mean 'step'"),
        ({"kind": ["step"]}, "kind: one of"),
        ({"kind": "cosine", "warmup": 0.1, "after_warmup": 1}, "after_warmup: true or false"),
        ({"kind": "step", "at": []}, "at: a list of numbers"),
        ({"kind": "step", "at": [0.5, "x"]}, "at: a number"),
        ({"kind": "step", "at": [10**400]}, "at: a number"),
        ({"kind": "halving", "every": 0.0}, "every: from 0.001"),
        ({"kind": "random", "seed": -1}, "seed: a whole number of at least 0"),
        ({"kind": "cyclic", "form": 3}, "form: a name"),
        ({"kind": "warmup_stable_decay", "decay": 0.0}, "decay: above 0, at most 1"),
        ({"kind": "warmup_stable_decay", "warmup": 0.5, "decay": 0.6}, "decay: at most 1 − warmup = 0.5"),
        ({"kind": "constant", "of": "momentum"}, "of: one of"),
        ({"kind": "cosine", "of": "batch_size", "largest_batch": 0}, "largest_batch: a whole number above 0"),
    ],
)
def test_a_message_names_the_refused_option(table: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        schedule_from(table)


def steps_of(run: Run) -> list[tuple[int, int, int]]:
    """Return the batch size, the block and the position in the block of every step."""
    plan, batches = batches_of(run), []
    for step in range(run.steps):
        stretch = plan.at(step)
        batches.append((stretch.batch_size, stretch.block, stretch.start + (step - stretch.first) * stretch.batch_size))
    return batches


def test_a_constant_batch_drops_the_rest_of_an_epoch(make_run: MakeRun) -> None:
    run = make_run(train_size=25, batch_size=10, steps=5)
    assert isinstance(batches_of(run), ConstantBatches)
    assert steps_of(run) == [(10, 0, 0), (10, 0, 10), (10, 1, 0), (10, 1, 10), (10, 2, 0)]


def test_a_growing_batch_continues_at_the_same_position_of_the_epoch(make_run: MakeRun) -> None:
    schedule = schedule_from({"kind": "step", "at": [0.5], "factor": 0.5, "of": "batch_size"})
    run = make_run(train_size=25, batch_size=5, steps=8, schedule=schedule.text)
    assert steps_of(run) == [
        (5, 0, 0), (5, 0, 5), (5, 0, 10), (5, 0, 15),
        (10, 1, 0), (10, 1, 10), (10, 2, 0), (10, 2, 10),
    ]  # fmt: skip
    plan = batches_of(run)
    assert plan.largest == 10 and [plan.examples(step) for step in (0, 3, 5, 8)] == [0, 15, 30, 60]


@pytest.mark.parametrize("sampling", ["epoch_shuffle", "subset"])
def test_a_budget_in_epochs_has_fewer_steps_if_the_batch_grows(make_run: MakeRun, sampling: str) -> None:
    schedule = schedule_from({"kind": "step", "at": [0.5], "factor": 0.5, "of": "batch_size"})
    run = make_run(train_size=40, batch_size=5, schedule=schedule.text, epochs_budget=4.0, sampling=sampling)
    plan = MovingBatches(run)
    assert plan.steps == 2 * 8 + 2 * 4
    assert plan.examples(plan.steps) == 4 * 40
    assert [plan.at(step).batch_size for step in (0, 15, 16, 23)] == [5, 5, 10, 10]
    assert plan.at(16).progress_at(16) == pytest.approx(0.5)
    # Three quarters of the epochs are done after two epochs of small batches and one epoch of large batches.
    assert [plan.step_at(Fraction(k, 4)) for k in range(5)] == [0, 8, 16, 20, 24]
    assert [plan.elapsed(step) for step in (0, 8, 20, 24)] == pytest.approx([0, 0.25, 0.75, 1])


@given(
    st.sampled_from(["cosine", "linear", "halving", "cyclic", "step"]),
    st.integers(1, 30),
    st.sampled_from([None, 7, 50]),
    st.sampled_from(["epoch_shuffle", "with_replacement"]),
    st.sampled_from([None, 0.5, 3.0]),
)
def test_the_temperature_follows_the_schedule_exactly(
    make_run: MakeRun, kind: str, batch: int, bound: int | None, sampling: str, epochs: float | None
) -> None:
    schedule = schedule_from({"kind": kind, "of": "batch_size"} | ({} if bound is None else {"largest_batch": bound}))
    run = make_run(batch_size=batch, sampling=sampling, steps=50, schedule=schedule.text, epochs_budget=epochs)
    plan = MovingBatches(run)
    for step in range(plan.steps):
        stretch = plan.at(step)
        assert stretch.first <= step < stretch.end
        assert 1 <= stretch.batch_size <= min(run.train_size, bound or run.train_size)
        assert sampling == "with_replacement" or stretch.start + stretch.steps * stretch.batch_size <= run.train_size
        temperature = rate_factor_at(run, schedule, step, stretch) / stretch.batch_size
        expected = schedule.rate_factor(stretch.progress_at(step)) / run.batch_size
        assert temperature == pytest.approx(expected, rel=1e-12)


def test_runs_without_a_schedule_have_the_constant_schedule() -> None:
    assert Schedule().text == "constant" and Schedule().table == {"kind": "constant"}
