"""Every option of AdamW gives the same weights as `torch.optim.AdamW`, under every parameterization, over 50 steps."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from covering import Case, covering_array, name
from plain_loop import Scaled, batches, build, factors, loss_function, train_plain, weights
from torch import Tensor

from noisescale.datasets import Dataset
from noisescale.parameterizations import WITH_BASE_WIDTH
from noisescale.runs import Run
from noisescale.training import parse_schedule

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer

TOLERANCE = 1e-9
STEPS = 50
WIDTH, BASE = 24, 16

OPTIONS: dict[str, tuple[Any, ...]] = {
    "parameterization": ("standard", "ntk", "improved_standard", "mup", "own"),
    "depth": (1, 2),
    "betas": ((0.9, 0.999), (0.8, 0.95), "mixed"),
    "epsilon": (1e-8, 1e-2, "mixed"),
    "decay": ("none", "decoupled", "independent"),
    "no_decay": ("", "biases"),
    "clip_norm": (None, 0.3),
    "sampling": ("epoch_shuffle", "subset", "with_replacement"),
    "schedule": (
        "constant",
        "cosine",
        "linear final=0.1 warmup=0.3",
        "step at=[0.3,0.7]",
        'step at=[0.5] factor=0.4 of="batch_size"',
    ),
}


def cases() -> list[Case]:
    return [dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*OPTIONS.values())]


def runs_of(case: Case, make_run: MakeRun) -> list[Run]:
    name_ = case["parameterization"]
    base = make_run(
        optimizer="adamw",
        parameterization=name_,
        depth=case["depth"],
        width=WIDTH,
        base_width=BASE if name_ in WITH_BASE_WIDTH else None,
        steps=STEPS,
        sampling=case["sampling"],
        schedule=parse_schedule(case["schedule"]).text,
        decay="decoupled" if case["decay"] == "none" else case["decay"],
        no_decay=case["no_decay"],
        clip_norm=case["clip_norm"],
    )
    betas = [(0.9, 0.999), (0.8, 0.95), (0.95, 0.9)] if case["betas"] == "mixed" else [case["betas"]] * 3
    epsilons = (1e-8, 1e-3, 1e-2) if case["epsilon"] == "mixed" else (case["epsilon"],) * 3
    decays = (0.0,) * 3 if case["decay"] == "none" else (0.1, 0.0, 0.3)
    settings = zip(betas, epsilons, decays, (0.02, 0.01, 0.02), (3, 3, 8), strict=True)
    return [
        replace(base, beta1=beta1, beta2=beta2, epsilon=epsilon, weight_decay=decay, learning_rate=rate, seed=seed)
        for (beta1, beta2), epsilon, decay, rate, seed in settings
    ]


def train_mup(run: Run, dataset: Dataset, steps: int) -> list[Tensor]:
    """Write out µP for Adam on W: the rate is ε for input weights and biases, and ε n₀/n for all other parameters."""
    model, loss, schedule = build(run, dataset, torch.float64), loss_function(run, dataset, torch.float64), run.schedule
    layers = [layer for layer in model if isinstance(layer, Scaled)]
    growth, groups, norms = run.width / BASE, [], []
    for place, layer in enumerate(layers):
        is_first, is_last = place == 0, place == len(layers) - 1
        m, m_bias, _ = factors(run, layer.theta.shape[1], is_first, is_last)
        with torch.no_grad():
            layer.theta.mul_(m)
        layer.factor = layer.bias_factor = 1.0
        rate = 1.0 if is_first else 1 / growth
        for parameter, multiplier, of_bias in ((layer.theta, rate, False), (layer.beta, 1.0, True)):
            skipped = of_bias and run.no_decay == "biases"
            groups.append({"params": [parameter], "multiplier": multiplier, "decays": not skipped})
        norms += [m, m_bias]
    assert run.beta1 is not None and run.beta2 is not None and run.epsilon is not None
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(run.beta1, run.beta2), eps=run.epsilon)
    x, y = dataset.x_train.double(), dataset.y_train
    for progress, index in batches(run, steps, len(x)):
        parsed = parse_schedule(schedule)
        factor = parsed.warmed(progress, run.steps)
        if parsed.of == "batch_size":
            factor = parsed.rate_factor(progress) * len(index) / run.batch_size
        for group in optimizer.param_groups:
            group["lr"] = run.learning_rate * factor * group["multiplier"]
            shared = group["multiplier"] if run.decay == "independent" else 1.0
            group["weight_decay"] = run.weight_decay / shared if group["decays"] else 0.0
        optimizer.zero_grad()
        loss(model(x[index]), y[index]).backward()
        if run.clip_norm is not None:
            parameters = [group["params"][0] for group in optimizer.param_groups]
            norm = math.sqrt(sum(m**2 * float(p.grad.square().sum()) for p, m in zip(parameters, norms, strict=True)))
            for parameter in parameters:
                parameter.grad.mul_(min(1.0, run.clip_norm / (norm + 1e-6)))
        optimizer.step()
    return weights(model)


def check(case: Case, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer) -> None:
    dataset, runs = make_data((7,)), runs_of(case, make_run)
    packed = make_trainer(runs, dataset)
    for until in (1, 17, 30, STEPS):
        packed.advance(until)
    for position, run in enumerate(runs):
        plain = (
            train_mup(run, dataset, STEPS)
            if run.parameterization == "mup"
            else weights(train_plain(run, dataset, STEPS))
        )
        alone = make_trainer([run], dataset)
        alone.advance()
        for trainer, place in ((packed, position), (alone, 0)):
            for actual, expected in zip(trainer.state.parameters.values(), plain, strict=True):
                assert torch.isfinite(expected).all()
                torch.testing.assert_close(actual[place], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", covering_array(cases()), ids=name)
def test_every_pair_of_options_equals_torch(
    case: Case, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    check(case, make_run, make_data, make_trainer)


@pytest.mark.full
@pytest.mark.parametrize("parameterization", OPTIONS["parameterization"])
@pytest.mark.parametrize("decay", OPTIONS["decay"])
def test_every_combination_equals_torch(
    parameterization: str, decay: str, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    """The betas and ϵ of the three runs of a pack differ, so each combination of other options sees all of them."""
    fixed = {"parameterization": parameterization, "decay": decay, "betas": "mixed", "epsilon": "mixed"}
    for case in cases():
        if fixed.items() <= case.items():
            check(case, make_run, make_data, make_trainer)


@pytest.mark.parametrize("normalization", ["batch", "layer"])
@pytest.mark.parametrize("no_decay", ["gains", "biases", "gains biases"])
def test_gains_and_biases_can_have_no_decay(
    normalization: str, no_decay: str, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    run = make_run(
        optimizer="adamw", beta1=0.9, beta2=0.99, epsilon=1e-8, normalization=normalization, weight_decay=0.5, depth=2,
        decay="decoupled", no_decay=no_decay, learning_rate=0.01, steps=STEPS, parameterization="own",
    )  # fmt: skip
    dataset = make_data((7,))
    trainer = make_trainer([run], dataset)
    trainer.advance()
    for actual, expected in zip(
        trainer.state.parameters.values(), weights(train_plain(run, dataset, STEPS)), strict=True
    ):
        torch.testing.assert_close(actual[0], expected, rtol=0, atol=TOLERANCE)


def test_a_resumed_pack_equals_an_uninterrupted_pack_to_the_bit(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    dataset = make_data((7,))
    runs = runs_of({key: values[-1] for key, values in OPTIONS.items()}, make_run)
    whole, first, second = (make_trainer(runs, dataset) for _ in range(3))
    whole.advance()
    first.advance(23)
    second.state = type(first.state).from_dict(first.state.as_dict())
    second.advance()
    for name_, tensor in whole.state.parameters.items():
        assert torch.equal(tensor, second.state.parameters[name_])
    assert set(whole.state.slots) == {"mean", "square"}


def test_a_run_does_not_depend_on_the_other_runs_of_its_pack(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    dataset = make_data((7,))
    run = make_run(optimizer="adamw", beta1=0.9, beta2=0.999, epsilon=1e-8, decay="decoupled", steps=STEPS)
    calm, wild = replace(run, learning_rate=0.01), replace(run, learning_rate=math.exp(700))
    trainer, alone = make_trainer([calm, wild], dataset), make_trainer([calm], dataset)
    trainer.advance()
    alone.advance()
    assert trainer.state.frozen.tolist() == [False, True]
    for name_, tensor in alone.state.parameters.items():
        torch.testing.assert_close(tensor[0], trainer.state.parameters[name_][0], rtol=0, atol=TOLERANCE)
