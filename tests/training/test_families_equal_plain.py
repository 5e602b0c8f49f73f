"""Every family, normalization and kernel gives the same weights and running statistics as a plain loop."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from covering import Case, covering_array, having, name

from noisescale.parameterizations import WITH_BASE_WIDTH

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer

TOLERANCE = 1e-9
STEPS = 20
# Groups of two units, as at width 4, are normalized to ±1. A rounding error of 1e-15 in the inputs then changes the
# weights of a plain loop by 5e-9 in these steps. With three units, it changes them by 1e-13.
WIDTHS = (6, 12)

OPTIONS: dict[str, tuple[Any, ...]] = {
    "family": ("mlp", "convnet", "resnet"),
    "normalization": ("none", "batch", "ghost_batch", "layer", "group"),
    "parameterization": ("standard", "ntk", "improved_standard", "mup", "own"),
    "optimizer": ("plain", "momentum", "mixed"),
    "activation": ("relu", "tanh"),
    "scale_invariant": (False, True),
    "kernel": ("vmap", "unfolded", "loop"),
}


def product() -> list[Case]:
    """Return the cases that can be built: scale invariance needs a normalization, some tables a trained read-out."""
    cases = [dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*OPTIONS.values())]
    return [
        case
        for case in cases
        if not case["scale_invariant"]
        or (case["normalization"] != "none" and case["parameterization"] not in WITH_BASE_WIDTH)
    ]


def check_case(case: Case, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer) -> None:
    from plain_loop import train_plain, weights

    dataset = make_data((2, 8, 8))
    options = {key: case[key] for key in ("family", "normalization", "parameterization", "activation")}
    options["scale_invariant"] = case["scale_invariant"]
    if case["normalization"] == "group":
        options["groups"] = 2
    if case["normalization"] == "ghost_batch":
        options["ghost_size"] = 4
    if case["family"] == "resnet":
        options["blocks"] = "[1, 1]"
    elif case["family"] == "convnet":
        options["depth"] = 2
    base = {"base_width": WIDTHS[0]} if case["parameterization"] in WITH_BASE_WIDTH else {}
    momenta = {"momentum": (0.9, 0.9), "mixed": (0.5, 0.0)}.get(case["optimizer"], (0.0, 0.0))
    decays = {"mixed": (0.01, 0.0)}.get(case["optimizer"], (0.0, 0.0))
    for width in WIDTHS:
        first = make_run(**options, **base, width=width, steps=STEPS, evaluations=2)
        runs = [
            replace(first, learning_rate=rate, momentum=momentum, weight_decay=decay, seed=seed)
            for rate, momentum, decay, seed in zip((0.01, 0.03), momenta, decays, (3, 8), strict=True)
        ]
        trainer = make_trainer(runs, dataset, kernel=case["kernel"])
        assert trainer.kernel == case["kernel"], trainer.note
        trainer.advance()
        for position, run in enumerate(runs):
            model = train_plain(run, dataset, STEPS)
            plain = weights(model)
            assert len(plain) == len(trainer.state.parameters)
            for actual, expected in zip(trainer.state.parameters.values(), plain, strict=True):
                assert torch.isfinite(expected).all(), "a run that diverges compares nothing"
                torch.testing.assert_close(actual[position], expected, rtol=TOLERANCE, atol=TOLERANCE)
            buffers = dict(model.named_buffers())
            for key, buffer in trainer.state.buffers.items():
                torch.testing.assert_close(buffer[position], buffers[key], rtol=TOLERANCE, atol=TOLERANCE)
            assert bool(trainer.state.buffers) == ("batch" in case["normalization"])
            with torch.no_grad():
                outputs = model.eval()(dataset.x_test.double())
            loss = torch.nn.functional.cross_entropy(outputs, dataset.y_test)
            assert trainer.results()[position].final["test_loss"] == pytest.approx(float(loss), rel=1e-9)


@pytest.mark.short
@pytest.mark.parametrize("case", covering_array(product()), ids=name)
def test_families_equal_plain(case: Case, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer) -> None:
    check_case(case, make_run, make_data, make_trainer)


@pytest.mark.full
@pytest.mark.parametrize("family", OPTIONS["family"])
@pytest.mark.parametrize("normalization", OPTIONS["normalization"])
@pytest.mark.parametrize("parameterization", OPTIONS["parameterization"])
def test_families_equal_plain_for_the_whole_product(
    family: str, normalization: str, parameterization: str, make_run: MakeRun, make_data: MakeData,
    make_trainer: MakeTrainer,
) -> None:  # fmt: skip
    for case in having(product(), family=family, normalization=normalization, parameterization=parameterization):
        check_case(case, make_run, make_data, make_trainer)
