"""The program that the report prints: it runs for every kind of data, and trains as the study did.

At B = N the order of the examples does not matter, so that the weights of the program are those of the study's run with
seed 0. After 40 steps in float32, their losses agree to 1e-4.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisescale.laws import fit, recommend
from noisescale.report.snippet import training_snippet
from noisescale.store import Study
from noisescale.sweeps import SweepSpec, sweep

N, TEST, LENGTH, KINDS = 40, 20, 7, 5
DRAW, NUMBERS = np.random.default_rng(0), itertools.count()


class PerPosition(nn.Module):
    """Outputs for each position of tokens or of vectors; of a dictionary, its tokens."""

    def __init__(self, width: int, shape: Any, classes: int, pooled: bool = False) -> None:
        super().__init__()
        vectors = not isinstance(shape, dict) and len(shape) == 2
        self.start = nn.Linear(shape[1], width) if vectors else nn.Embedding(KINDS, width)
        self.end, self.pooled = nn.Linear(width, classes), pooled

    def forward(self, x: Any) -> Tensor:
        hidden = torch.tanh(self.start(x if isinstance(x, Tensor) else x["tokens"]))
        outputs: Tensor = self.end(hidden.mean(1) if self.pooled else hidden)
        return outputs


def pooled(width: int, shape: Any, classes: int) -> nn.Module:
    return PerPosition(width, shape, classes, pooled=True)


def per_position(width: int, shape: Any, classes: int) -> nn.Module:
    return PerPosition(width, shape, classes)


def network(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), width), nn.Tanh(), nn.Linear(width, classes))


def absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().mean(-1)


VECTORS = DRAW.normal(size=(N + TEST, 6)).astype("float32")
TOKENS = DRAW.integers(0, KINDS, (N + TEST, LENGTH))
HIDDEN = np.where(DRAW.random(TOKENS.shape) < 0.3, -100, TOKENS)
BITS = (VECTORS[:, :3] > 0).astype(int)
OF_VECTORS, OF_TOKENS = BITS[:, 0], (TOKENS.mean(1) > 2).astype(int)
NAMED = {"tokens": TOKENS, "mask": TOKENS > 0}
IGNORE, SQUARES = {"ignore_index": -100}, {"loss": "mse"}
# Inputs, targets, the model's function, options of the training and of the data.
KINDS_OF_DATA: dict[str, tuple[Any, Any, str, dict[str, Any], dict[str, Any]]] = {
    "vectors": (VECTORS, OF_VECTORS, "network", {"label_smoothing": 0.1}, {}),
    "squares of labels": (VECTORS, OF_VECTORS, "network", SQUARES, {}),
    "real targets": (VECTORS, VECTORS[:, :2], "network", SQUARES, {}),
    "own loss": (VECTORS, VECTORS[:, :2], "network", {"loss": "kinds:absolute"}, {}),
    "several labels": (VECTORS, BITS, "network", {"loss": "binary_cross_entropy"}, {"multi_label": True}),
    "class weights": (VECTORS, OF_VECTORS, "network", {"class_weights": "balanced"}, {}),
    "sequences of vectors": (VECTORS.reshape(-1, 3, 2), BITS, "per_position", {}, {}),
    "labels of tokens": (TOKENS, TOKENS, "per_position", {}, {}),
    "hidden labels of tokens": (TOKENS, HIDDEN, "per_position", IGNORE, {}),
    "labels of sequences": (TOKENS, OF_TOKENS, "pooled", {}, {}),
    "squares of sequences": (TOKENS, OF_TOKENS, "pooled", SQUARES, {}),
    "by name, labels of tokens": (NAMED, HIDDEN, "per_position", IGNORE, {}),
    "by name, labels": (NAMED, OF_TOKENS, "pooled", {}, {}),
}


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("kinds")
    for function in (network, pooled, per_position, absolute):
        setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, "kinds", module)
    return module


ADAMW = {"optimizer": ["adamw"], "parameterization": ["own"]}


def study_of(folder: Path, data: Any, model: str, training: dict[str, Any], **sections: Any) -> Study:
    x, y = data
    train, test = slice(N), slice(N, None)
    # Data are remembered by the name of their function.
    name = f"data_{next(NUMBERS)}"
    setattr(sys.modules["kinds"], name, lambda: (part(x, train), part(y, train), part(x, test), part(y, test)))
    grid = {"width": [4], "learning_rate": [0.03], "batch_size": [8], **sections.get("grid", ADAMW)}
    values = {
        "name": "program", "seeds": 2, "dataset": {"name": f"kinds:{name}", **sections.get("dataset", {})},
        "model": {"family": model if model == "transformer" else f"kinds:{model}", **sections.get("options", {})},
        "grid": grid,
        "training": {"steps": 40, "evaluations": 2, **training}, "stability": {"seeds": 0},
        "fit": {"metric": "loss", "extend_edges": False},
    }  # fmt: skip
    return sweep(SweepSpec.from_dict(values), folder, quiet=True, jobs=1)


def run_program(study: Study, width: int, edit: Callable[[str], str] = str, **names: Any) -> dict[str, Any]:
    """Run the program of a width, and return its names."""
    text = training_snippet(study.folder, study.spec, recommend(study, width))
    exec(compile(edit(text), "program", "exec"), names)
    return names


def part(values: Any, rows: slice) -> Any:
    return {name: array[rows] for name, array in values.items()} if isinstance(values, dict) else values[rows]


@pytest.mark.parametrize("kind", KINDS_OF_DATA)
def test_it_runs_for_every_kind_of_data(kind: str, kinds: ModuleType, tmp_path: Path) -> None:
    x, y, model, training, dataset = KINDS_OF_DATA[kind]
    study = study_of(tmp_path / "study", (x, y), model, training, dataset=dataset)
    names = run_program(study, 4)
    assert all(bool(tensor.isfinite().all()) for tensor in names["model"].parameters())
    assert names["scheduler"].last_epoch == names["recommendation"].steps == 40


@pytest.mark.parametrize(
    ("parameterization", "optimizer", "average"),
    [
        ("standard", "sgd", {"ema": 0.9}),
        ("ntk", "sgd", "mean"),
        ("ntk", "adamw", {"ema": 0.8}),
        ("mup", "adamw", True),
        ("mup", "transformer", {"ema": 0.9}),
    ],
)
def test_it_clips_and_averages_as_the_study_did(
    parameterization: str, optimizer: str, average: Any, kinds: ModuleType, tmp_path: Path
) -> None:
    queries = optimizer == "transformer"  # its query rows are a part of a tensor
    rate, norm = (0.003, 0.4) if optimizer == "adamw" else (0.3, 0.05)
    grid = {
        "width": [4, 8], "learning_rate": [rate], "batch_size": [N], "parameterization": [parameterization],
        "optimizer": ["sgd" if queries else optimizer],
    }  # fmt: skip
    training = {"clip_norm": norm, "average": average}
    data = (TOKENS, TOKENS) if queries else (VECTORS, OF_VECTORS)
    model, options = ("transformer", {"heads": 2}) if queries else ("network", {})
    study = study_of(tmp_path / "study", data, model, training, grid=grid, options=options)
    runs = study.runs()
    (run,) = runs[(runs.width == 8) & (runs.seed == 0)].to_dict("records")
    last, averaged = losses_of(run_program(study, 8))
    assert last == pytest.approx(run["final_test_loss"], rel=1e-4)
    assert averaged == pytest.approx(run["averaged_test_loss"], rel=1e-4)
    # Both options matter in this study.
    unclipped, _ = losses_of(run_program(study, 8, without_clipping))
    assert unclipped != pytest.approx(last, rel=1e-3) and averaged != pytest.approx(last, rel=1e-3)


def without_clipping(text: str) -> str:
    lines = [line for line in text.splitlines() if "clip_grad" not in line]
    assert len(lines) == len(text.splitlines()) - 1
    return "\n".join(lines)


def losses_of(names: dict[str, Any]) -> tuple[float, float]:
    """Return the test loss of the last weights and of their average."""
    x, y = names["data"].x_test, names["data"].y_test.flatten().long()
    x = x if x.is_floating_point() else x.long()
    with torch.no_grad():
        last, averaged = (
            float(nn.functional.cross_entropy(names[name].eval()(x).flatten(0, -2), y)) for name in ("model", "average")
        )
    return last, averaged


@pytest.mark.parametrize("sampling", ["epoch_shuffle", "subset", "with_replacement"])
def test_it_draws_batches_as_the_study_did(sampling: str, kinds: ModuleType, tmp_path: Path) -> None:
    study = study_of(tmp_path / "study", (VECTORS, OF_VECTORS), "network", {"sampling": sampling})
    seen: list[Tensor] = []
    run_program(study, 4, lambda text: text.replace("    x, y =", "    seen.append(batch)\n    x, y ="), seen=seen)
    assert len(seen) == 40 and all(batch.shape == (8,) for batch in seen)
    epochs = [torch.cat(seen[start : start + N // 8]) for start in range(0, 40, N // 8)]
    orders = [bool((epoch.sort().values == torch.arange(N)).all()) for epoch in epochs]
    assert all(orders) if sampling == "epoch_shuffle" else not all(orders)
    repeats = any(len(batch.unique()) < 8 for batch in seen)
    assert repeats == (sampling == "with_replacement")
    assert epochs[0].tolist() != epochs[1].tolist()


def test_it_ends_with_what_a_run_is_expected_to_reach(make_study: Any) -> None:
    study = make_study(seeds=3, widths=(32, 64), batches=(4, 8, 16, 32, 64, 128))
    recommendation = recommend(fit(study), 64)
    assert np.isfinite(recommendation.expected_metric.run_low)
    *_, remark, last = training_snippet(study.folder, study.spec, recommendation).splitlines()
    assert remark == "# 95 % of single runs reach a test accuracy between these two values"
    assert last == "print(recommendation.expected_metric.run_low, recommendation.expected_metric.run_high)"
