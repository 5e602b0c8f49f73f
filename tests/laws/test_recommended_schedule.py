"""`recommendation.schedule` gives the study's schedule as a torch scheduler, step for step."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    SequentialLR,
)

from noisescale.errors import BadInput
from noisescale.laws import recommend

Make = Callable[..., Any]
STEPS = 40


def rates_of(make: Callable[[Optimizer], Any], peaks: tuple[float, float]) -> list[list[float]]:
    tensors = [torch.nn.Parameter(torch.zeros(1)) for _ in peaks]
    optimizer = torch.optim.SGD([{"params": [t], "lr": peak} for t, peak in zip(tensors, peaks, strict=True)])
    scheduler, rates = make(optimizer), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR passes the step to its parts, which torch deprecates.
        for _ in range(STEPS):
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
    return rates


def warm_up(optimizer: Optimizer) -> LinearLR:
    return LinearLR(optimizer, 0.1, 1.0, 9)


@pytest.mark.parametrize(
    ("text", "of_torch"),
    [
        ("constant", lambda optimizer: ConstantLR(optimizer, 1.0)),
        ("step at=[0.25,0.6] factor=0.5", lambda optimizer: MultiStepLR(optimizer, [10, 24], 0.5)),
        (
            "cosine after_warmup=true warmup=0.25",
            lambda o: SequentialLR(o, [warm_up(o), CosineAnnealingLR(o, STEPS - STEPS // 4)], [STEPS // 4]),
        ),
        ("cosine warmup=0.25", lambda o: ChainedScheduler([warm_up(o), CosineAnnealingLR(o, STEPS)])),
        ("linear final=0.1", lambda optimizer: LinearLR(optimizer, 1.0, 0.1, STEPS)),
        (
            "warmup_stable_decay decay=0.5 final=0.1 warmup=0.25",
            lambda o: SequentialLR(o, [warm_up(o), ConstantLR(o, 1.0, 1), LinearLR(o, 1.0, 0.1, 20)], [10, 20]),
        ),
    ],
)
def test_the_scheduler_equals_torchs(text: str, of_torch: Callable[[Optimizer], Any], make_study: Make) -> None:
    recommendation = replace(recommend(make_study(rates=(2.0,)), width=64), schedule_text=text, steps=STEPS)
    peaks = (0.5, 2.0)
    for actual, expected in zip(rates_of(recommendation.schedule, peaks), rates_of(of_torch, peaks), strict=True):
        assert actual == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_the_schedule_of_the_group_is_that_of_the_recommendation(make_study: Make) -> None:
    study = make_study(rates=(2.0,))
    assert recommend(study, width=64).schedule_text == "constant"
    falling = replace(study, table=study.table.assign(schedule="cosine final=0.1"))
    recommendation = recommend(falling, width=64)
    assert json.loads(json.dumps(recommendation.as_json()))["schedule"] == "cosine final=0.1"
    assert "schedule_text" not in recommendation.as_json()


@pytest.mark.parametrize("text", ['cosine of="batch_size"', "random pieces=2 seed=1"])
def test_a_schedule_that_changes_more_than_the_rate_is_refused(text: str, make_study: Make) -> None:
    recommendation = replace(recommend(make_study(rates=(2.0,)), width=64), schedule_text=text)
    with pytest.raises(BadInput, match="a schedule of the learning rate only"):
        recommendation.schedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1))
