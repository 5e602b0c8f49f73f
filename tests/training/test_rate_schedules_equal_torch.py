"""Schedules of the rate, with SGD and AdamW, equal torch's schedulers and optimizers in a plain loop of 200 steps.

The tolerance is 1e-9 in float64: sums of 200 steps in another order differ by about 1e-13.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from plain_loop import batches, build, build_optimizer, loss_function, weights
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LinearLR, SequentialLR

from noisescale.datasets import Dataset
from noisescale.runs import Run

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer

TOLERANCE = 1e-9
STEPS = 200
# A warm-up of 20 steps rises from 1/20 to 1.
WARMUP: dict[str, Any] = {"start_factor": 1 / 20, "end_factor": 1.0, "total_iters": 19}


def warm_cosine(optimizer: Optimizer) -> Any:
    return SequentialLR(optimizer, [LinearLR(optimizer, **WARMUP), CosineAnnealingLR(optimizer, STEPS - 20)], [20])


def warm_linear(optimizer: Optimizer) -> Any:
    return SequentialLR(optimizer, [LinearLR(optimizer, **WARMUP), LinearLR(optimizer, 1.0, 0.1, STEPS - 20)], [20])


def multiplied_cosine(optimizer: Optimizer) -> Any:
    return ChainedScheduler([LinearLR(optimizer, **WARMUP), CosineAnnealingLR(optimizer, STEPS)])


def multiplied_linear(optimizer: Optimizer) -> Any:
    return lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20) * (1 - 0.9 * step / STEPS))


def warm_stable_decay(optimizer: Optimizer) -> Any:
    stable, fall = lr_scheduler.ConstantLR(optimizer, 1.0, 1), LinearLR(optimizer, 1.0, 0.0, 50)
    return SequentialLR(optimizer, [LinearLR(optimizer, **WARMUP), stable, fall], [20, 150])


SCHEDULES: dict[str, Callable[[Optimizer], Any]] = {
    "cosine after_warmup=true warmup=0.1": warm_cosine,
    "linear final=0.1 after_warmup=true warmup=0.1": warm_linear,
    "cosine warmup=0.1": multiplied_cosine,
    "linear final=0.1 warmup=0.1": multiplied_linear,
    "warmup_stable_decay decay=0.25 warmup=0.1": warm_stable_decay,
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "learning_rate": 0.05, "weight_decay": 0.01, "decay": "coupled"},
    "adamw": {
        "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "learning_rate": 0.01, "weight_decay": 0.1, "decay": "decoupled",
    },
}  # fmt: skip


def train_with_torch(run: Run, dataset: Dataset, make: Callable[[Optimizer], Any]) -> list[Tensor]:
    model, loss = build(run, dataset, torch.float64), loss_function(run, dataset, torch.float64)
    optimizer = build_optimizer(run, model)
    for group in optimizer.param_groups:
        group["weight_decay"] = run.weight_decay
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR passes the step to its parts, which torch deprecates.
        scheduler = make(optimizer)
        for _, index in batches(run, STEPS, len(dataset.x_train)):
            optimizer.zero_grad()
            loss(model(dataset.x_train[index].double()), dataset.y_train[index]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.3)
            optimizer.step()
            scheduler.step()
    return weights(model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_200_steps_equal_torchs_scheduler_optimizer_and_clipping(
    schedule: str, optimizer: str, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    dataset = make_data((7,))
    base = make_run(
        optimizer=optimizer, schedule=schedule, steps=STEPS, clip_norm=0.3, parameterization="standard",
        **OPTIMIZERS[optimizer],
    )  # fmt: skip
    runs = [base, replace(base, seed=4, learning_rate=2 * base.learning_rate)]
    trainer = make_trainer(runs, dataset)
    trainer.advance()
    for position, run in enumerate(runs):
        expected = train_with_torch(run, dataset, SCHEDULES[schedule])
        for actual, tensor in zip(trainer.state.parameters.values(), expected, strict=True):
            torch.testing.assert_close(actual[position], tensor, rtol=0, atol=TOLERANCE)
