"""Every kind of extension is one module's worth of code and one row, from the sweep or the verdict to the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisescale.claims import CLAIMS, Claim, Curve, Evidence, Panel, Request, above, over_seeds, verify
from noisescale.datasets import KNOWN_DATASETS, DatasetOptions, RawArrays, Source
from noisescale.errors import BadInput
from noisescale.families import (
    FAMILIES,
    NORMALIZATIONS,
    Family,
    ModelOptions,
    Normalization,
    Normalizer,
    family_factory,
)
from noisescale.laws import Recommendation, fit, recommend
from noisescale.parameterizations import Table
from noisescale.report import fit_tables, recommendation_tables, write_report, write_verdict_pages
from noisescale.runs import Run
from noisescale.store import Study
from noisescale.sweeps import SweepSpec, sweep
from noisescale.sweeps.doctor import examine
from noisescale.training import LOSSES, METRICS, OPTIMIZERS, Loss, Metric, Optimizer, PackedOptimizer, Split, Tensors

SPEC: dict[str, Any] = {
    "name": "extended",
    "seeds": 3,
    "dataset": {"name": "digits", "train_size": 300, "validation_fraction": 0.2},
    "model": {"family": "mlp"},
    "grid": {
        "width": [8, 16],
        "learning_rate": {"from": 0.05, "to": 1.6, "factor": 2.0},
        "batch_size": [16],
        "parameterization": ["standard"],
    },
    "training": {"steps": 120, "evaluations": 4},
    "fit": {"extend_edges": False, "select_on": "validation"},
    "stability": {"seeds": 0},
}


def changed(**sections: dict[str, Any]) -> SweepSpec:
    return SweepSpec.from_dict({**SPEC, **{name: {**SPEC[name], **values} for name, values in sections.items()}})


def end_to_end(spec: SweepSpec, folder: Path) -> tuple[Study, Recommendation]:
    """Sweep, fit, print, recommend and report; the whole path of a user."""
    study = sweep(spec, folder, jobs=1, quiet=True)
    runs = study.runs()
    assert (runs.status == "completed").all() and len(runs) == len(spec.runs())
    fitted = fit(study)
    assert fit_tables(fitted)
    recommendation = recommend(study, width=32)
    assert recommendation_tables(recommendation)
    assert recommendation.learning_rate.value > 0
    page = write_report(study).read_text(encoding="utf-8")
    assert "extended" in page
    return study, recommendation


# An optimizer with a slot and without a noise law: the sign of an average of gradients.


class SignDescent(Optimizer):
    """θ ← θ − ε √c sign(v), v ← m v + (1 − m) g."""

    name = "sign_descent"
    hyperparameters = ("momentum",)
    defaults = {"momentum": 0.5}

    def slot_names(self, runs: Sequence[Run]) -> tuple[str, ...]:
        return ("average",)

    def rate_multiplier(self, row: Any) -> tuple[float, float]:
        return row.multiplier**0.5, row.query_factor

    def for_pack(self, runs: Sequence[Run], tables: Sequence[Table], like: Tensors) -> PackedOptimizer:
        return PackedSignDescent(self, runs, tables, like)


class PackedSignDescent(PackedOptimizer):
    """The update of R runs."""

    def __init__(self, optimizer: Optimizer, runs: Sequence[Run], tables: Sequence[Table], like: Tensors) -> None:
        super().__init__(optimizer, runs, tables, like)
        self._kept_share = self.run_values([run.momentum for run in runs])

    def update_parameter(self, name: str, tensor: Tensor, slots: Tensors, gradient: Tensor) -> None:
        average = slots["average"]
        average.mul_(self._kept_share[name]).add_(gradient * (1 - self._kept_share[name]))
        tensor.sub_(average.sign() * self.rate[name])


def test_an_optimizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIMIZERS, "sign_descent", SignDescent())
    grid = {
        "optimizer": ["sign_descent"],
        "momentum": [0.5],
        "weight_decay": [0.1],
        "learning_rate": {"from": 0.0005, "to": 0.032, "factor": 2.0},
    }
    study, recommendation = end_to_end(changed(grid=grid, training={"decay": "decoupled"}), tmp_path / "out")
    runs = study.runs()
    assert set(runs.optimizer) == {"sign_descent"} and set(runs.momentum) == {0.5}
    # Without a noise law there is no noise scale, and the optimum is a learning rate at the batch of the grid.
    assert runs.noise_scale.isna().all() and runs.normalized_noise_scale.isna().all()
    assert recommendation.optimizer_name == "sign_descent" and recommendation.batch_size == 16
    assert np.isnan(recommendation.noise_scale.value)
    best = runs[runs.width == 16].groupby("learning_rate").validation_accuracy.mean()
    assert best.max() > 0.7
    with pytest.raises(BadInput, match=r"torch\.optim"):
        recommendation.optimizer(family_factory(ModelOptions("mlp")))


# A loss without a written gradient and without a constant predictor.


def test_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pseudo_huber(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - targets).square() + 1).sqrt().sum(-1) - outputs.shape[-1]

    monkeypatch.setitem(LOSSES, "pseudo_huber", Loss(pseudo_huber, "pseudo-Huber"))
    ladder = {"from": 0.01, "to": 0.16, "factor": 1.6}
    training = {"loss": "pseudo_huber", "steps": 400}
    spec = changed(grid={"learning_rate": ladder}, training=training, fit={"metric": "loss"})
    study, recommendation = end_to_end(spec, tmp_path / "out")
    runs = study.runs()
    assert set(runs.loss) == {"pseudo_huber"}
    # A constant output of 0.1 for ten classes is near the best constant; training improves on it.
    rows = torch.eye(10, dtype=torch.float64)
    assert runs.chance_loss.iloc[0] == pytest.approx(
        min(float(pseudo_huber(torch.full((10, 10), c, dtype=torch.float64), rows).mean()) for c in (0.09, 0.1, 0.11)),
        rel=0.05,
    )
    assert runs.groupby("width").validation_loss.min().max() < runs.chance_loss.iloc[0]
    assert recommendation.metric == "loss"


# A metric of a whole evaluation set. Smaller is better.


def test_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def worst_class_error(outputs: Tensor, split: Split) -> Tensor:
        assert split.labels is not None
        wrong = (outputs.argmax(-1) != split.labels).double()
        return torch.stack([wrong[:, split.labels == label].mean(1) for label in split.labels.unique()]).max(0).values

    metric = Metric("min", "fraction", lambda split: 1.0, of_set=worst_class_error, needs_classes=True, percent=True)
    monkeypatch.setitem(METRICS, "worst_class_error", metric)
    study, recommendation = end_to_end(changed(fit={"metric": "worst_class_error"}), tmp_path / "out")
    runs, fitted = study.runs(), fit(study)
    assert runs.test_worst_class_error.between(0, 1).all() and (runs.chance_worst_class_error == 1.0).all()
    assert recommendation.metric == "worst_class_error"
    cells = fitted.groups[0].series[0].widths[-1].cells
    values = [cell.metrics["worst_class_error"].value for cell in cells]
    optimum = fitted.groups[0].series[0].widths[-1].optima["worst_class_error"]
    # The best cell is the one with the smallest error, whatever the accuracy says.
    assert np.exp(optimum.curve.argmax) == pytest.approx(_place(cells[int(np.argmin(values))], fitted), rel=1.5)
    assert "worst class error" in (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")


def _place(cell: Any, fitted: Any) -> float:
    return float(getattr(cell, fitted.groups[0].series[0].quantity))


# A normalization.


class RootMeanSquare(nn.Module):
    """y = x/√(mean of x² + ε), over the channels."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs / (inputs.square().mean(1, keepdim=True) + 1e-5).sqrt()


def test_a_normalization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(normalization: Normalization, channels: int, spatial: int, affine: bool) -> nn.Module:
        return RootMeanSquare()

    monkeypatch.setitem(NORMALIZATIONS, "root_mean_square", Normalizer(build))
    study, _ = end_to_end(changed(model={"normalization": "root_mean_square"}), tmp_path / "out")
    assert set(study.runs().normalization) == {"root_mean_square"}


# A data set with two spatial axes of unequal length, and a network that uses them.


def test_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stripes(options: DatasetOptions) -> RawArrays:
        generator = np.random.default_rng(options.data_seed)
        labels = np.arange(480) % 3
        images = generator.standard_normal((480, 1, 6, 10)).astype(np.float32)
        for label in range(3):
            images[labels == label, :, 2 * label : 2 * label + 2] += 1.5
        return RawArrays(images[:360], labels[:360], images[360:], labels[360:], num_outputs=3)

    monkeypatch.setitem(KNOWN_DATASETS, "stripes", Source(stripes))
    assert examine()["data"]["stripes"] == "embedded"
    spec = changed(dataset={"name": "stripes"}, model={"family": "convnet", "depth": 2}, grid={"width": [2, 4]})
    study, _ = end_to_end(spec, tmp_path / "out")
    assert study.data_shape() == ((1, 6, 10), 3)
    assert study.runs().test_accuracy.max() > 0.6


# A family for inputs with one spatial axis.


def test_a_family_in_one_dimension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def strided(width: int, input_shape: tuple[int, ...], num_classes: int, *, depth: int) -> nn.Module:
        channels, layers = input_shape[0], []
        for _ in range(depth):
            layers += [nn.Conv1d(channels, width, 5, stride=2), nn.ReLU()]
            channels = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, num_classes))

    monkeypatch.setitem(FAMILIES, "strided", Family(strided, ("depth",)))
    spec = changed(
        dataset={"name": "mnist1d", "train_size": 300},
        model={"family": "strided", "depth": 2},
        grid={"learning_rate": {"from": 0.1, "to": 1.6, "factor": 1.6}},
        training={"steps": 300},
    )
    study, recommendation = end_to_end(spec, tmp_path / "out")
    assert study.data_shape() == ((1, 40), 10)
    model, optimizer = recommendation.optimizer(lambda width, shape, k: strided(width, shape, k, depth=2))
    assert model(torch.zeros(2, 1, 40)).shape == (2, 10) and isinstance(optimizer, torch.optim.SGD)


# A claim with a new experiment, in a new paper.


def test_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faster_with_a_larger_rate(request: Request) -> Evidence:
        seeds = request.seeds({"smoke": 8, "laptop": 8})
        rates = (0.1, 0.1) if request.null else (0.1, 0.2)
        start = np.array([np.random.default_rng(seed).normal(3.0, 0.2) for seed in seeds])
        slow, fast = (start * (1 - rate) ** 10 for rate in rates)
        statistic = over_seeds("distance left, small minus large rate", slow - fast, "1", "10 steps", above(0.0))
        curve = Curve("0.2", np.arange(8.0), fast)
        return Evidence(
            (statistic,), (Panel("seed", "distance", (curve,)),), 2 * len(start), "gradient descent on x²/2"
        )

    monkeypatch.setitem(
        CLAIMS,
        "T1",
        Claim(
            id="T1", paper="textbook", statement="A larger rate descends faster.", statistic="distance left",
            criterion="above 0", source="derived", experiment=faster_with_a_larger_rate,
        ),
    )  # fmt: skip
    verdicts = verify("T1", scale="smoke", out=tmp_path)
    assert [verdict.verdict for verdict, _ in verdicts] == ["supported"]
    pages = write_verdict_pages(verdicts, tmp_path)
    assert any("A larger rate descends faster." in page.read_text("utf-8") for page in pages if page.suffix == ".html")
    evidence = faster_with_a_larger_rate(Request("smoke", 0, tmp_path, null=True))
    assert evidence.statistics[0].outcome != "supported"
