"""Factors of the rate by pattern of names equal torch's parameter groups with scaled rates, with clipping and decay.

The tolerance is 1e-9 in float64: sums of 60 steps in another order differ by about 1e-13.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from plain_loop import batches, build
from torch import nn

from noisescale.datasets import Dataset
from noisescale.errors import BadInput
from noisescale.families import build as seeded_build
from noisescale.families import family_factory
from noisescale.families.options import ModelOptions
from noisescale.parameterizations import build_table, describe_parameters, multiply_rates
from noisescale.runs import Run
from noisescale.training import parameterize

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer

TOLERANCE = 1e-9
STEPS, WIDTH, BASE = 60, 8, 4
TEXT, FACTORS = '{"1.*": 0.1, "3.bias": 4.0}', {"1.weight": 0.1, "1.bias": 0.1, "3.weight": 1.0, "3.bias": 4.0}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "learning_rate": 0.02},
    "adamw": {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "learning_rate": 0.01},
}
CASES = [("sgd", decay) for decay in ("coupled", "decoupled", "independent")]
CASES += [("adamw", decay) for decay in ("decoupled", "independent")]


def step_through(model: nn.Module, optimizer: torch.optim.Optimizer, run: Run, dataset: Dataset) -> None:
    """Train with torch, with the decays of SGD that torch lacks as an explicit product."""
    shrinks = run.optimizer == "sgd" and run.decay != "coupled"
    for _, index in batches(run, STEPS, len(dataset.x_train)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(dataset.x_train[index].double()), dataset.y_train[index]).backward()
        if run.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), run.clip_norm)
        for group in optimizer.param_groups if shrinks else ():
            rate = group["lr"] if run.decay == "decoupled" else run.learning_rate
            with torch.no_grad():
                group["params"][0].mul_(1 - rate * run.weight_decay)
        optimizer.step()


def scaled_groups(model: nn.Module, run: Run) -> torch.optim.Optimizer:
    groups = []
    for name, parameter in model.named_parameters():
        factor = FACTORS[name]
        decay = run.weight_decay / (factor if run.decay == "independent" else 1.0)
        in_torch = run.optimizer == "adamw" or run.decay == "coupled"
        group = {"params": [parameter], "lr": run.learning_rate * factor, "weight_decay": decay if in_torch else 0.0}
        groups.append(group)
    if run.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=run.momentum)
    assert run.beta1 is not None and run.beta2 is not None and run.epsilon is not None
    return torch.optim.AdamW(groups, betas=(run.beta1, run.beta2), eps=run.epsilon)


@pytest.mark.parametrize("clip_norm", [None, 0.3])
@pytest.mark.parametrize(("optimizer", "decay"), CASES)
def test_a_pack_equals_torch_groups_with_scaled_rates(
    optimizer: str, decay: str, clip_norm: float | None, make_run: MakeRun, make_data: MakeData,
    make_trainer: MakeTrainer,
) -> None:  # fmt: skip
    dataset = make_data()
    run = make_run(
        optimizer=optimizer, decay=decay, weight_decay=0.1, clip_norm=clip_norm, parameterization="own", width=WIDTH,
        steps=STEPS, rate_multipliers=TEXT, **OPTIMIZERS[optimizer],
    )  # fmt: skip
    runs = [run, replace(run, seed=5)]
    trainer = make_trainer(runs, dataset)
    trainer.advance()
    for position, each in enumerate(runs):
        model = build(each, dataset, torch.float64)
        step_through(model, scaled_groups(model, each), each, dataset)
        for actual, expected in zip(trainer.state.parameters.values(), model.parameters(), strict=True):
            torch.testing.assert_close(actual[position], expected.detach(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("parameterization", ["ntk", "mup"])
@pytest.mark.parametrize(("optimizer", "decay"), CASES)
def test_the_groups_of_parameterize_equal_the_pack(
    optimizer: str, decay: str, parameterization: str, make_run: MakeRun, make_data: MakeData,
    make_trainer: MakeTrainer,
) -> None:  # fmt: skip
    dataset = make_data()
    run = make_run(
        optimizer=optimizer, decay=decay, weight_decay=0.1, parameterization=parameterization, width=WIDTH, steps=STEPS,
        base_width=BASE if parameterization == "mup" else None, rate_multipliers=TEXT, **OPTIMIZERS[optimizer],
    )  # fmt: skip
    trainer = make_trainer([run], dataset)
    trainer.advance()
    factory = family_factory(ModelOptions.of_run(run))
    model, reference, base = (seeded_build(factory, width, (7,), 4, 0) for width in (WIDTH, 2 * WIDTH, BASE))
    groups = parameterize(
        model.double(), reference, parameterization, run.learning_rate, base=base if run.base_width else None,
        optimizer=optimizer, weight_decay=0.1, decay=decay, rate_multipliers={"1.*": 0.1, "3.bias": 4.0},
        **{key: value for key, value in OPTIMIZERS[optimizer].items() if key != "learning_rate"},
    )  # fmt: skip
    step_through(model, groups.build(), replace(run, decay="coupled"), dataset)
    for actual, expected in zip(trainer.state.parameters.values(), model.parameters(), strict=True):
        torch.testing.assert_close(actual[0], expected.detach(), rtol=0, atol=TOLERANCE)


def test_the_noise_of_a_layer_has_its_factor(make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer) -> None:
    plain = make_run(parameterization="ntk", steps=1)
    layers = []
    for run in (plain, replace(plain, rate_multipliers=TEXT)):
        trainer = make_trainer([run], make_data())
        trainer.advance()
        layers.append({row["layer"]: row for row in trainer.results()[0].layers})
    for name, factor in FACTORS.items():
        before, after = (rows[name]["multiplier"] for rows in layers)
        assert after == pytest.approx(factor * before, rel=1e-12)
    noises = [rows["1.weight"]["normalized_noise_scale"] for rows in layers]
    assert noises[1] == pytest.approx(0.1 * noises[0], rel=1e-12)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"backbone.*": 0.1}, r"0\.weight, 0\.bias, 1\.weight, 1\.bias.*'backbone\.\*'"),
        ({"0.*": 0.1, "*.weight": 0.5}, r"0\.weight has two.*'0\.\*' and '\*\.weight'"),
    ],
)
def test_patterns_that_match_nothing_or_twice_are_refused(factors: dict[str, float], message: str) -> None:
    model, reference = (nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2)) for width in (4, 8))
    table = build_table("own", describe_parameters(model, reference))
    with pytest.raises(BadInput, match="(?s)model.rate_multipliers.*" + message):
        multiply_rates(table, factors)


def test_a_factor_follows_a_tied_parameter_by_any_of_its_names() -> None:
    def tied(width: int) -> nn.Module:
        model = nn.Sequential(nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False))
        model[1].weight = model[0].weight
        return model

    table = multiply_rates(build_table("own", describe_parameters(tied(4), tied(8))), {"1.*": 0.5})
    assert [(row.name, row.rate_factor) for row in table] == [("0.weight", 0.5)]
