"""Whole sweeps of tokens: a language of known entropy, losses and metrics of tokens, a user's loss and metric."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.input_shapes import vocabulary_of
from noisescale.laws import fit, recommend
from noisescale.report import write_report
from noisescale.sweeps import SweepSpec, failures, sweep

MakeSpec = Callable[..., SweepSpec]
LANGUAGE = {
    "dataset": {"name": "language", "vocabulary": 6, "context": 8, "order": 1, "train_size": 200, "test_size": 60},
    "model": {"family": "transformer", "heads": 2},
    "grid": {"width": [4, 8], "learning_rate": [0.01, 0.03, 0.1], "batch_size": [8], "optimizer": ["adamw"]},
    "training": {"steps": 60, "evaluations": 4},
    "fit": {"metric": "perplexity", "extend_edges": False},
    "stability": {"seeds": 0},
}


def spec_of(values: dict[str, object]) -> SweepSpec:
    return SweepSpec.from_dict({"name": "tokens", "seeds": 3, **values})


def test_a_language_is_learned_towards_its_entropy(tmp_path: Path) -> None:
    study = sweep(spec_of(LANGUAGE), tmp_path, quiet=True)
    runs = study.runs()
    assert (runs.status == "completed").all() and set(runs.kernel) <= {"batched", "vmap", "loop"}
    # AdamW at one batch size has no temperature, so the page has no figure of it.
    assert np.allclose(np.exp(runs.final_test_loss), runs.final_test_perplexity, rtol=1e-5)
    entropy = spec_entropy()
    best = float(runs.test_loss.min())
    assert entropy < best < entropy + 0.5 * (float(runs.chance_loss.iloc[0]) - entropy)
    recommendation = recommend(study, 8)
    assert vocabulary_of(recommendation.input_shape) == 6
    assert recommendation.expected_metric.unit == "perplexity" and recommendation.metric == "perplexity"
    page = write_report(study).read_text(encoding="utf-8")
    assert "perplexity" in page and "tokens of 6 kinds" in page and "Collapse" not in page
    # The program of the page trains as it is.
    (program,) = re.findall(r'<pre id="training-loop">(.*?)</pre>', page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(unescape(program), "snippet", "exec"), names)
    model, data = names["model"].eval(), names["data"]
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(data.x_test.long()).flatten(0, 1), data.y_test.long().flatten())
    assert float(loss) < float(runs.chance_loss.iloc[0]) - 0.1


def spec_entropy() -> float:
    from noisescale.sweeps import Grid

    entropy = Grid(spec_of(LANGUAGE)).dataset(0.0).entropy
    assert entropy is not None
    return entropy


def test_padding_is_ignored_and_classes_are_balanced(tmp_path: Path) -> None:
    training = {**LANGUAGE["training"], "ignore_index": 0, "class_weights": "balanced", "label_smoothing": 0.1}  # type: ignore[dict-item]
    values = {**LANGUAGE, "training": training, "fit": {"metric": "balanced_accuracy", "extend_edges": False}}
    runs = sweep(spec_of(values), tmp_path, quiet=True).runs()
    assert set(runs.ignore_index) == {0} and runs.chance_balanced_accuracy.tolist() == pytest.approx([0.2] * len(runs))
    assert runs.test_balanced_accuracy.between(0, 1).all()


class Pooled(nn.Module):
    """An embedding of tokens, their mean, and two outputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.drop, self.out = nn.Embedding(9, width), nn.Dropout(0.1), nn.Linear(width, 2)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        hidden = self.drop(self.embed(tokens)).mean(1)
        return {"features": hidden, "scores": self.out(hidden)}


def data() -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(0)
    tokens = generator.integers(9, size=(160, 5))
    counts = np.stack([(tokens < 3).sum(1), (tokens > 6).sum(1)], 1).astype(np.float32)
    return tokens[:120], counts[:120], tokens[120:], counts[120:]


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.huber_loss(outputs, targets, reduction="none").sum(-1)


def largest_error(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs - targets).abs().max())


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_tokens")
    module.__dict__.update(
        model=lambda width, shape, classes: Pooled(width), data=data, huber=huber, largest_error=largest_error,
        random=lambda outputs, targets: (outputs - targets).square().sum(-1) * torch.rand(len(outputs)),
        scalar=lambda outputs, targets: (outputs - targets).square().mean(),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "own_tokens", module)


OWN = {
    "dataset": {"name": "own_tokens:data"},
    "model": {"family": "own_tokens:model", "outputs": "scores"},
    "grid": {"parameterization": ["own"], "width": [4], "learning_rate": [0.03, 0.1, 0.3], "batch_size": [8]},
    "training": {"steps": 40, "evaluations": 4, "loss": "own_tokens:huber"},
    "fit": {"metric": "own_tokens:largest_error", "direction": "min", "extend_edges": False},
    "stability": {"seeds": 0},
}


def test_a_loss_and_a_metric_of_the_user_decide(tmp_path: Path, own: None) -> None:
    study = sweep(spec_of(OWN), tmp_path, quiet=True)
    runs = study.runs()
    column = "test_own_tokens:largest_error:min"
    assert (runs.status == "completed").all() and set(runs.kernel) == {"vmap"} and runs[column].notna().all()
    fitted = fit(study)
    cells = fitted.groups[0].series[0].widths[0].cells
    expected = runs.groupby("learning_rate")[column].mean().sort_index()
    compared = [(cell, mean) for cell, mean in zip(cells, expected, strict=True) if not cell.failures]
    assert compared
    for cell, mean in compared:
        assert cell.metrics["own_tokens:largest_error:min"].value == pytest.approx(mean)
    assert math.isfinite(runs.chance_loss.iloc[0]) and runs.test_loss.min() < runs.chance_loss.iloc[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"family": "own_tokens:model"}}, r"model\.family: .*model\.outputs selects an entry"),
        ({"model": {"family": "own_tokens:model", "outputs": "logits"}}, r"model\.outputs.*'features', 'scores'"),
        ({"training": {"steps": 5, "loss": "own_tokens:random"}}, r"training\.loss: .*outputs and the targets alone"),
        ({"training": {"steps": 5, "loss": "own_tokens:scalar"}}, r"training\.loss: .*values \(8,\).*\(\)"),
        ({"training": {"steps": 5, "loss": "own_tokens:none"}}, r"training\.loss.*'none'"),
        ({"training": {"steps": 5, "loss": "cross_entropy"}}, r"training\.loss: 'mse' or 'binary_cross_entropy'"),
        ({"fit": {"metric": "own_tokens:largest_error"}}, r"fit\.direction"),
        ({"fit": {"metric": "loss", "direction": "min"}}, r"fit\.direction"),
        ({"training": {"steps": 5, "loss": "mse", "label_smoothing": 0.1}}, r"training\.label_smoothing"),
    ],
)
def test_what_cannot_be_used_is_refused_by_key(changes: dict[str, object], message: str, own: None) -> None:
    with pytest.raises(BadInput, match=message):
        spec_of({**OWN, **changes}).runs()


def test_targets_of_0_and_1_are_several_labels_for_the_binary_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def labelled() -> tuple[np.ndarray, ...]:
        generator = np.random.default_rng(1)
        inputs = generator.normal(size=(150, 4)).astype(np.float32)
        labels = (inputs[:, :3] + generator.normal(scale=0.3, size=(150, 3)) > 0).astype(int)
        return inputs[:100], labels[:100], inputs[100:], labels[100:]

    module = ModuleType("own_labels")
    module.__dict__.update(data=labelled)
    monkeypatch.setitem(sys.modules, "own_labels", module)
    spec = spec_of(
        {
            "dataset": {"name": "own_labels:data"},
            "model": {"family": "mlp"},
            "grid": {"width": [4], "learning_rate": [0.5, 2.0, 8.0], "batch_size": [10]},
            "training": {"steps": 200, "evaluations": 4, "loss": "binary_cross_entropy"},
            "fit": {"metric": "f1_macro", "extend_edges": False},
            "stability": {"seeds": 0},
        }
    )
    runs = sweep(spec, tmp_path, quiet=True).runs()
    assert (runs.status == "completed").all() and runs.test_f1_macro.max() > 0.8
    assert runs.test_accuracy.max() > 0.8 and runs.test_loss.min() < 0.6 * math.log(2)


def test_a_metric_of_finite_outputs_that_is_not_finite_fails_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: None
) -> None:
    calls = iter(range(1000))
    sys.modules["own_tokens"].__dict__["late"] = lambda outputs, targets: math.nan if next(calls) > 1 else 1.0
    spec = spec_of({**OWN, "fit": {"metric": "own_tokens:late", "direction": "min", "extend_edges": False}})
    sweep(spec, tmp_path, quiet=True)
    assert all("fit.metric" in error and "nan" in error for error in failures(tmp_path).values()) and failures(tmp_path)


def test_a_perplexity_needs_a_cross_entropy() -> None:
    values = {**LANGUAGE, "dataset": {"name": "digits", "train_size": 60}, "model": {"family": "mlp"}}
    values["training"] = {"steps": 5, "loss": "mse"}
    with pytest.raises(BadInput, match=r"fit\.metric: a metric other than 'perplexity'"):
        spec_of(values).runs()
