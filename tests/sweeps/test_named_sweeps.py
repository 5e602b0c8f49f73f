"""A whole sweep on inputs by name: planned, trained by workers, fitted, recommended, handed over."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from torch import nn

from noisescale.errors import BadInput
from noisescale.input_shapes import NamedShapes, vocabulary_of
from noisescale.laws import fit, recommend
from noisescale.named_inputs import NamedInputs
from noisescale.report import write_report
from noisescale.store import Study
from noisescale.sweeps import Grid, SweepSpec, sweep

MODULE = """
import numpy as np
import torch
from torch import nn

class Mixed(nn.Module):
    def __init__(self, width, shape, classes):
        super().__init__()
        self.embed = nn.Embedding(shape["tokens"].vocabulary, width)
        self.age, self.out = nn.Linear(1, width), nn.Linear(width, classes)
    def forward(self, batch):
        mask = batch["mask"].unsqueeze(-1)
        pooled = (self.embed(batch["tokens"]) * mask).sum(1) / mask.sum(1)
        return self.out(torch.tanh(pooled + self.age(batch["age"].unsqueeze(-1))))

def model(width, input_shape, num_classes):
    return Mixed(width, input_shape, num_classes)

def data():
    generator = np.random.default_rng(0)
    parts = []
    for examples in (120, 40):
        tokens, lengths = generator.integers(9, size=(examples, 5)), generator.integers(1, 6, size=examples)
        mask = np.arange(5) < lengths[:, None]
        age = generator.normal(40, 10, size=examples)
        labels = ((tokens * mask).sum(1) / lengths > 4).astype(int) + (age > 45)
        parts += [{"tokens": tokens, "mask": mask, "age": age}, labels]
    return tuple(parts)
"""
SPEC = {
    "name": "named",
    "seeds": 2,
    "dataset": {"name": "own_named_data:data"},
    "model": {"family": "own_named_data:model"},
    "grid": {"parameterization": ["own"], "width": [4, 8], "learning_rate": [0.1, 0.3, 1.0], "batch_size": [8]},
    "training": {"steps": 60, "evaluations": 4},
    "fit": {"metric": "accuracy", "extend_edges": False},
    "measure": {"quantities": ["lambda_max"], "at": [1.0], "examples": 32},
    "stability": {"seeds": 0},
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "own_named_data.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_named_data", raising=False)
    import own_named_data  # type: ignore[import-not-found]

    monkeypatch.setitem(sys.modules, "own_named_data", own_named_data)
    return own_named_data  # type: ignore[no-any-return]


def test_a_sweep_ends_with_a_model_that_trains(own: ModuleType, tmp_path: Path) -> None:
    study = sweep(SweepSpec.from_dict(SPEC), tmp_path / "study", quiet=True)
    runs = study.runs()
    assert (runs.status == "completed").all() and set(runs.kernel) <= {"vmap", "loop"}
    assert all(np.isfinite(study.curves().groupby("run_id").lambda_max.last()))
    shape, classes = Study.open(tmp_path / "study").data_shape()
    assert isinstance(shape, NamedShapes) and shape == {"tokens": (5,), "mask": (5,), "age": ()} and classes == 3
    assert vocabulary_of(shape["tokens"]) == 9 and shape.kinds["mask"] == "flags"
    assert copy.deepcopy(shape).kinds == shape.kinds
    fitted = fit(study)
    assert len(fitted.groups) == 1
    recommendation = recommend(study, 8)
    assert "inputs by name (tokens, mask, age)" in " ".join(recommendation.validity)
    module, optimizer = recommendation.optimizer(own.model)
    data = Grid(SweepSpec.from_dict(SPEC)).dataset(0.0)
    assert isinstance(data.x_train, NamedInputs)
    inputs = {name: data.x_train[name] for name in data.x_train}
    before = float(nn.functional.cross_entropy(module(inputs), data.y_train).detach())
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), data.y_train).backward()
        optimizer.step()
    assert float(nn.functional.cross_entropy(module(inputs), data.y_train).detach()) < before
    assert write_report(study).exists()


def test_the_record_is_checked(own: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    spec = SweepSpec.from_dict({**SPEC, "seeds": 1, "training": {"steps": 4, "evaluations": 2}})
    sweep(spec, folder, quiet=True)
    values = json.loads((folder / "data.json").read_text())
    for changed in ({}, {"tokens": {"input_shape": [5]}}, {"tokens": {"input_shape": [-1], "holds": "numbers"}}, []):
        (folder / "data.json").write_text(json.dumps({**values, "inputs": changed}))
        with pytest.raises(BadInput, match=r"data\.json"):
            Study.open(folder).data_shape()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"family": "mlp"}}, r"model\.family.*inputs by name"),
        ({"training": {"steps": 5, "augmentation": ["flip"]}}, r"training\.augmentation.*inputs by name"),
        ({"dataset": {"name": "own_named_data:data", "vocabulary": 9}}, r"dataset\.vocabulary: not given"),
    ],
)
def test_what_needs_one_array_is_refused_by_key(changes: dict[str, Any], message: str, own: ModuleType) -> None:
    spec = {**SPEC, **changes}
    if spec["model"] == {"family": "mlp"}:
        spec["grid"] = {**SPEC["grid"], "parameterization": ["standard"]}  # type: ignore[dict-item]
    with pytest.raises(BadInput, match=message):
        SweepSpec.from_dict(spec).runs()
