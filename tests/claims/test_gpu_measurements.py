"""Claims that at the size of a GPU are judged by what sweeps measure, on sweeps of the same shape that take seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noisescale.claims import CLAIMS, Evidence, Request, studies
from noisescale.claims.criterion import joint_outcome
from noisescale.store import Study
from noisescale.sweeps import SweepSpec, sweep

pytestmark = pytest.mark.full

# By the name of a sweep: what makes it small. Larger decays need fewer steps.
_NETWORK: dict[str, dict[str, Any]] = {
    "dataset": {"name": "digits"},
    "model": {"family": "mlp", "depth": 2, "normalization": "batch", "scale_invariant": True},
}
SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "gpu-normalized-networks": {
        **_NETWORK, "grid": {"weight_decay": [0.02, 0.08, 0.32], "width": [32], "batch_size": [32]},
        "training": {"steps": 2400},
    },
    "gpu-normalized-histories": {
        **_NETWORK, "grid": {"weight_decay": [0.025], "width": [32], "batch_size": [32]}, "training": {"steps": 1200},
    },
    "gpu-curvature-over-batches": {
        "dataset": {"name": "mnist1d", "test_size": 1000}, "model": {"family": "mlp", "depth": 1},
        "grid": {"width": [64]}, "training": {"steps": 3000}, "measure": {"examples": 256},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of sweeps that several claims share."""
    return tmp_path_factory.mktemp("sweeps")


def evidence_of(id: str, folder: Path, monkeypatch: pytest.MonkeyPatch, null: bool = False) -> Evidence:
    """Of a claim at the scale of a GPU, with small sweeps in place of its own."""

    def instead(spec: SweepSpec, request: Request) -> Study:
        values = spec.model_dump(mode="json", exclude_defaults=True)
        changed = {name: {**(values.get(name) or {}), **own} for name, own in SMALL[spec.name].items()}
        for name in ("dataset", "model"):
            changed[name] = SMALL[spec.name][name]
        small = SweepSpec.from_dict(values | changed)
        return sweep(small, folder / spec.name, jobs=1, quiet=True)

    monkeypatch.setattr(studies, "trained", instead)
    experiment = CLAIMS[id].experiment
    assert experiment is not None
    request = Request("gpu", 0, folder, null=null)
    evidence = experiment(request)
    assert request.used
    return evidence


def values_of(evidence: Evidence) -> dict[str, float]:
    return {one.name: one.estimate.value for one in evidence.statistics}


def test_norms_and_rotations_are_those_of_theory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = evidence_of("C2.3", folder, monkeypatch)
    assert values_of(norm)["‖w‖⁴ over theory"] == pytest.approx(1, abs=0.2)
    assert norm.runs == 18
    found = values_of(evidence_of("C2.4", folder, monkeypatch))
    assert found["rotation over √(2ηλ)"] == pytest.approx(1, abs=0.1)
    assert found["exponent of η"] == pytest.approx(0, abs=0.1)


def test_with_the_theory_of_another_pair_the_norm_is_far_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = evidence_of("C2.3", folder, monkeypatch, null=True)
    assert joint_outcome(evidence.statistics) != "supported"
    assert abs(values_of(evidence)["‖w‖⁴ over theory"] - 1) > 0.5


def test_histories_end_in_the_same_effective_rate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = evidence_of("C2.6", folder, monkeypatch)
    found = values_of(evidence)
    assert evidence.runs == 15
    assert found["effective rate, one history over the other"] == pytest.approx(1, abs=0.1)
    assert found["effective rate: control"] > 0.2


def test_curvature_is_taken_along_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = evidence_of("C4.3", folder, monkeypatch)
    assert evidence.runs == 32
    assert values_of(evidence)["log lambda_max, an octave of η/S: mse, lambda_max"] < 0
    assert all(one.estimate.bounded for one in evidence.statistics)
