"""Claims that need measurements from sweeps at GPU scale, tested on small sweeps that take seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noisescale.claims import CLAIMS, Evidence, Request, joint_outcome, study
from noisescale.store import Study
from noisescale.sweeps import SweepSpec, sweep

pytestmark = pytest.mark.full

# Changes that make a sweep small, by name of the sweep. Larger decays need fewer steps.
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
    """Return a folder of sweeps that several claims share."""
    return tmp_path_factory.mktemp("sweeps")


def evidence_of(id: str, folder: Path, monkeypatch: pytest.MonkeyPatch, null: bool = False) -> Evidence:
    """Run a claim at GPU scale with small sweeps instead of its sweeps."""

    def train_small(request: Request, spec: SweepSpec) -> Study:
        values = spec.model_dump(mode="json", exclude_defaults=True)
        changed = {name: {**(values.get(name) or {}), **section} for name, section in SMALL[spec.name].items()}
        for name in ("dataset", "model"):
            changed[name] = SMALL[spec.name][name]
        small = SweepSpec.from_dict(values | changed)
        return sweep(small, folder / spec.name, jobs=1, quiet=True)

    monkeypatch.setattr(study, "train", train_small)
    claim = CLAIMS[id]
    assert claim.experiment is not None
    evidence = claim.experiment(Request("gpu", 0, folder, null=null))
    names = [spec.name for decisive in claim.gpu_studies for spec in decisive.specs("gpu", 0)]
    assert list(evidence.provenance.trained) == names and evidence.provenance.device
    assert claim.gpu_studies[0].gpu is not None and evidence.setting == claim.gpu_studies[0].gpu.setting
    return evidence


def values_of(evidence: Evidence) -> dict[str, float]:
    return {statistic.name: statistic.estimate.value for statistic in evidence.statistics}


def test_norms_and_rotations_agree_with_theory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = evidence_of("C2.3", folder, monkeypatch)
    assert values_of(norm)["ratio of ‖w‖⁴ to theory"] == pytest.approx(1, abs=0.2)
    assert norm.runs == 18
    values = values_of(evidence_of("C2.4", folder, monkeypatch))
    assert values["ratio of rotation to √(2ηλ)"] == pytest.approx(1, abs=0.1)
    assert values["exponent of η"] == pytest.approx(0, abs=0.1)


def test_the_norm_is_far_from_the_theory_of_another_pair(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = evidence_of("C2.3", folder, monkeypatch, null=True)
    assert joint_outcome(evidence.statistics) != "supported"
    assert abs(values_of(evidence)["ratio of ‖w‖⁴ to theory"] - 1) > 0.5


def test_histories_end_at_the_same_effective_rate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = evidence_of("C2.6", folder, monkeypatch)
    values = values_of(evidence)
    assert evidence.runs == 15
    assert values["ratio of the effective rates of two histories"] == pytest.approx(1, abs=0.1)
    assert values["ratio of the effective rates: control"] > 0.2


def test_curvature_is_read_along_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = evidence_of("C4.3", folder, monkeypatch)
    assert evidence.runs == 32
    assert values_of(evidence)["change of log lambda_max per doubling of η/S: mse"] < 0
    assert all(statistic.estimate.bounded for statistic in evidence.statistics)
