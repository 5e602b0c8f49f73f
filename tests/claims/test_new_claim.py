"""A new claim needs one module with an experiment and one row in the table, and no other change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from noisescale.claims import (
    CLAIMS,
    Claim,
    ClaimStudy,
    Curve,
    Evidence,
    Panel,
    Request,
    World,
    above,
    listed_claims,
    obtain,
    over_seeds,
    verify,
)
from noisescale.claims.studies.specs import mnist1d_spec
from noisescale.cli import main
from noisescale.report import write_verdict_pages

RATES = ClaimStudy(
    "MLPs of width 8 on MNIST-1D, two rates",
    lambda first: [
        mnist1d_spec(
            "toy-rates", first, 4, dataset={"train_size": 200, "test_size": 200},
            grid={"width": [8], "learning_rate": [1.0, 4.0], "batch_size": [8]},
            training={"steps": 60, "evaluations": 4},
        )
    ],
)  # fmt: skip


def the_larger_rate_wins(request: Request) -> Evidence:
    """T1: the larger of two rates reaches the higher test accuracy."""
    sweeps = obtain(request, RATES, World(rate_effect=0.0 if request.null else 0.05, curvature=0.0))
    accuracy = sweeps.table().pivot(index="seed", columns="learning_rate", values="accuracy")
    gain = (accuracy[4.0] - accuracy[1.0]).to_numpy(dtype=np.float64)
    curve = Curve("mean over seeds", accuracy.columns.to_numpy(dtype=np.float64), accuracy.mean().to_numpy())
    return Evidence(
        statistics=(over_seeds("gain from ε = 1 to 4", gain, "fraction", "accuracy, seed by seed", above(0)),),
        panels=(Panel("learning rate ε", "test accuracy", (curve,), log_x=True),),
        runs=sweeps.count,
        setting=sweeps.setting,
        provenance=sweeps.provenance,
    )


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Claim:
    claim = Claim(
        id="T1", paper="toy2024", statement="A larger rate is better.", statistic="gain in accuracy",
        criterion="95% interval above 0", source="derived", experiment=the_larger_rate_wins,
    )  # fmt: skip
    monkeypatch.setitem(CLAIMS, "T1", claim)
    return claim


def test_a_new_claim_is_verified_from_its_row_to_its_page(row: Claim, tmp_path: Path) -> None:
    verified = verify("T1", scale="smoke", out=tmp_path)
    ((verdict, evidence),) = verified
    assert verdict.verdict == "supported" and evidence is not None and verdict.level == 0.025
    assert verdict.setting == RATES.setting and verdict.device == "" and "planted" in verdict.note
    assert json.loads((tmp_path / "T1.json").read_text())["verdict"] == "supported"
    (page,) = write_verdict_pages(verified, tmp_path)
    text = page.read_text()
    assert page.name == "toy2024.html" and row.statement in text and text.count("<svg") == 1
    assert [listed["paper"] for listed in listed_claims() if listed["id"] == "T1"] == ["toy2024"]


def test_a_new_claim_trains_its_own_study(row: Claim, tmp_path: Path) -> None:
    ((verdict, evidence),) = verify("toy2024", scale="laptop", out=tmp_path)
    assert evidence is not None and evidence.provenance.trained == ("toy-rates",)
    assert verdict.runs == 8 and verdict.device.startswith(("CPU", "NVIDIA"))
    assert (tmp_path / "studies" / "laptop-0" / "toy-rates" / "spec.json").exists()


def test_the_null_of_a_new_claim_is_not_supported(row: Claim, tmp_path: Path) -> None:
    evidence = the_larger_rate_wins(Request("smoke", 0, tmp_path, null=True))
    assert evidence.statistics[0].outcome != "supported"


def test_the_commands_know_a_new_claim(row: Claim, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims"]) == 0
    assert "toy2024" in capsys.readouterr().out
    assert main(["verify", "T1", "--scale", "smoke", "--out", str(tmp_path)]) == 0
    assert "supported" in capsys.readouterr().out
