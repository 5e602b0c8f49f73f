"""The central invariant: every run of a pack has the same weights as in an independent plain training loop."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from covering import Case, covering_array, having, name
from scipy import stats

from noisescale.datasets import Dataset, DatasetOptions, load_dataset
from noisescale.parameterizations import WITH_BASE_WIDTH
from noisescale.runs import Run

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer

# In float64 over 20 steps, only rounding errors remain. Any wrong factor would give differences of at least 1e-3.
TOLERANCE = 1e-9
STEPS = 20
WIDTHS = (16, 64, 256)

OPTIONS: dict[str, tuple[Any, ...]] = {
    "parameterization": ("standard", "ntk", "improved_standard", "mup", "own"),
    "sampling": ("epoch_shuffle", "subset", "with_replacement"),
    "loss": ("cross_entropy", "mse", "mse real"),
    "optimizer": ("plain", "momentum", "decay", "mixed"),
    "depth": (1, 3),
    "activation": ("relu", "tanh"),
    "shape": ((7,), (1, 3, 4)),
    "kernel": ("auto", "vmap", "loop"),
}


def product() -> list[Case]:
    return [dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*OPTIONS.values())]


def check_case(
    case: Case, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer, compile: bool = False
) -> None:
    """Train packs of all widths in this process, one after another, and compare every run with its plain loop."""
    dataset = make_data(case["shape"], real=case["loss"] == "mse real")
    shared = {key: case[key] for key in ("parameterization", "sampling", "depth", "activation")}
    # Squared error grows with the outputs. The widest networks would diverge at the rates used with cross-entropy.
    low = 0.002 if case["loss"].startswith("mse") else 0.005
    rates = (0.02, 0.3) if case["parameterization"] == "ntk" else (low, 4 * low)
    base_width = WIDTHS[0] if case["parameterization"] in WITH_BASE_WIDTH else None
    momenta = {"momentum": (0.9, 0.9, 0.9), "mixed": (0.0, 0.9, 0.5)}.get(case["optimizer"], (0.0,) * 3)
    decays = {"decay": (0.01,) * 3, "mixed": (0.1, 0.0, 0.01)}.get(case["optimizer"], (0.0,) * 3)
    for width in WIDTHS:
        base = make_run(**shared, base_width=base_width, width=width, loss=case["loss"].split()[0], steps=STEPS)
        runs = [
            replace(base, learning_rate=rate, momentum=momentum, weight_decay=decay, seed=seed, init_scale=scale)
            for rate, momentum, decay, seed, scale in zip(
                (*rates, rates[0]), momenta, decays, (3, 3, 8), (2.0, 2.0, 1.0), strict=True
            )
        ]
        trainer = make_trainer(runs, dataset, kernel=case["kernel"], compile=compile)
        trainer.advance()
        compare(runs, dataset, list(trainer.state.parameters.values()), TOLERANCE)


def compare(
    runs: list[Run], dataset: Dataset, packed: list[torch.Tensor], tolerance: float, steps: int = STEPS
) -> None:
    from plain_loop import train_plain, weights

    for position, run in enumerate(runs):
        plain = weights(train_plain(run, dataset, steps))
        assert len(plain) == len(packed)
        for actual, expected in zip(packed, plain, strict=True):
            assert torch.isfinite(expected).all(), "a run that diverges compares nothing"
            torch.testing.assert_close(actual[position], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.short
@pytest.mark.parametrize("case", covering_array(product()), ids=name)
def test_packed_equals_plain(case: Case, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer) -> None:
    check_case(case, make_run, make_data, make_trainer)


@pytest.mark.full
@pytest.mark.parametrize("parameterization", OPTIONS["parameterization"])
@pytest.mark.parametrize("kernel", OPTIONS["kernel"])
@pytest.mark.parametrize("optimizer", OPTIONS["optimizer"])
def test_packed_equals_plain_for_the_whole_product(
    parameterization: str, kernel: str, optimizer: str, make_run: MakeRun, make_data: MakeData,
    make_trainer: MakeTrainer,
) -> None:  # fmt: skip
    for case in having(product(), parameterization=parameterization, kernel=kernel, optimizer=optimizer):
        check_case(case, make_run, make_data, make_trainer)


COMPILED = [
    {
        "parameterization": "ntk",
        "sampling": "epoch_shuffle",
        "loss": "cross_entropy",
        "optimizer": "mixed",
        "depth": 1,
        "activation": "relu",
        "shape": (7,),
        "kernel": kernel,
    }
    for kernel in ("auto", "vmap")
]
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="torch.compile needs a C++ compiler"
)


# Several widths follow each other in one process. A compiled step that contained 1/√width as a constant would fail.
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize("case", COMPILED[:1], ids=name)
def test_compiled_equals_plain(case: Case, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer) -> None:
    check_case(case, make_run, make_data, make_trainer, compile=True)


@pytest.mark.full
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # the same, of gradients without leaves
@pytest.mark.parametrize("case", [*COMPILED[1:], *covering_array(product())], ids=name)
def test_more_compiled_cases_equal_plain(
    case: Case, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    check_case(case, make_run, make_data, make_trainer, compile=True)


def test_float32_pack_equals_plain_early_and_in_distribution_late(make_run: MakeRun, make_trainer: MakeTrainer) -> None:
    from plain_loop import train_plain

    dataset = load_dataset(DatasetOptions("digits", train_size=300))
    # The training is so noisy that rounding errors make single runs differ at the end.
    base = make_run(precision="float32", width=32, learning_rate=0.3, batch_size=4, steps=250, evaluations=1)
    runs = [replace(base, seed=seed) for seed in range(12)]
    trainer = make_trainer(runs, dataset)
    trainer.advance(10)
    compare(runs, dataset, list(trainer.state.parameters.values()), 1e-4, steps=10)
    trainer.advance()
    packed = np.array([result.final["test_accuracy"] for result in trainer.results()])
    plain = []
    with torch.no_grad():
        for run in runs:
            with torch.enable_grad():
                model = train_plain(run, dataset, run.steps)
            plain.append(float((model(dataset.x_test).argmax(1) == dataset.y_test).float().mean()))
    difference = packed - np.array(plain)
    half_width = stats.t.ppf(0.975, len(runs) - 1) * difference.std(ddof=1) / np.sqrt(len(runs))
    assert abs(difference.mean()) <= half_width + 1e-12
    # A trainer with a wrong number of steps, or with twice the rate, differs by more than this margin.
    assert half_width < 0.02
    assert packed.mean() > 0.8
