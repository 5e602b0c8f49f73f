"""Every experiment finds its effect at smoke scale, and does not find it in the null."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noisescale.claims import (
    CLAIMS,
    PAPERS,
    Curve,
    Evidence,
    NotRun,
    Panel,
    Request,
    Statistic,
    World,
    above,
    joint_outcome,
    over_seeds,
    study,
    verify,
)
from noisescale.claims.criterion import below_or_open
from noisescale.claims.experiments import peaks_over_widths
from noisescale.claims.planted import PlantedStudy, plant
from noisescale.claims.provenance import device_name
from noisescale.cli import main
from noisescale.report import write_verdict_pages
from noisescale.sweeps import SweepSpec

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
WITH_EXPERIMENT = [claim.id for claim in CLAIMS.values() if claim.experiment is not None]


def test_all_claims_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    counts = {paper: sum(row["paper"] == name for row in listed) for paper, name in PAPERS.items()}
    contract = {"park2019": 11, "li2020": 12, "smith2020": 8, "jastrzebski2017": 11}
    assert sum(counts.values()) == len(listed) == len(CLAIMS)
    assert all(counts[paper] >= number for paper, number in contract.items())
    keys = set(json.loads((SCHEMAS / "claims.json").read_text())["items"]["required"])
    for row in listed:
        assert set(row) == keys
        assert all(row[name] for name in ("id", "statement", "statistic", "criterion"))
        assert row["source"] in ("read", "derived", "recalled")
    assert main(["claims"]) == 0
    assert "C4.11" in capsys.readouterr().out


# Claims whose experiments take more than four seconds, and resemble those of other claims.
LONGER = ("C2.4", "C2.5", "C2.7", "C2.8", "C2.10", "C2.11", "C2.12", "C4.3", "C4.5")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full) if name in LONGER else name for name in WITH_EXPERIMENT]
)
def test_the_effect_is_detected(name: str, tmp_path: Path) -> None:
    experiment = CLAIMS[name].experiment
    assert experiment is not None
    evidence = experiment(Request("smoke", 0, tmp_path))
    assert joint_outcome(evidence.statistics) == "supported", evidence.statistics
    assert evidence.runs > 0 and evidence.setting
    for panel in evidence.panels:
        assert panel.x_label and panel.y_label
        assert all(len(curve.x) == len(curve.y) for curve in panel.curves)


@pytest.mark.full
@pytest.mark.parametrize("name", WITH_EXPERIMENT)
def test_the_null_is_not_supported(name: str, tmp_path: Path) -> None:
    experiment = CLAIMS[name].experiment
    assert experiment is not None
    with contextlib.suppress(NotRun):  # a null without evidence is not supported either
        null = experiment(Request("smoke", 0, tmp_path, null=True))
        assert joint_outcome(null.statistics) != "supported", null.statistics


def test_the_command_writes_a_verdict_and_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", "C2.2", "C1.5", "--scale", "smoke", "--out", str(tmp_path)]
    assert main([*arguments, "--json"]) == 0
    verdicts = json.loads(capsys.readouterr().out)
    assert [verdict["verdict"] for verdict in verdicts] == ["supported", "supported"]
    assert json.loads((tmp_path / "C2.2.json").read_text()) == verdicts[0]
    keys = set(json.loads((SCHEMAS / "verify.json").read_text())["items"]["required"])
    assert all(set(verdict) == keys for verdict in verdicts)
    entries = {frozenset(entry) for verdict in verdicts for entry in (*verdict["statistics"], *verdict["beside"])}
    estimate = ("value", "low", "high", "unit", "convention")
    assert entries == {frozenset(("name", *estimate, "criterion", "outcome", "p_value"))}
    assert (tmp_path / "C2.2.svg").stat().st_size > 1000
    for paper, name in (("li2020", "C2.2"), ("park2019", "C1.5")):
        page = (tmp_path / f"{paper}.html").read_text()
        assert f"{name}: supported" in page and page.count("<svg") == 1 and "noisescale verify" in page
    assert main(arguments) == 0
    assert "supported" in capsys.readouterr().out


def test_a_claim_without_an_experiment_at_a_scale_is_not_run(tmp_path: Path) -> None:
    ((verdict, evidence),) = verify(["C2.2"], scale="gpu", out=tmp_path)
    assert (verdict.verdict, evidence, verdict.statistics) == ("not run", None, ())


def test_other_seeds_give_other_numbers(tmp_path: Path) -> None:
    values = [
        verify(["C2.2"], scale="smoke", out=tmp_path, seed_set=seed_set)[0][0].statistics[0]["value"]
        for seed_set in (0, 1, 0)
    ]
    assert values[0] == values[2] != values[1]


def test_a_verdict_names_the_device_that_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = {verdict.id: verdict.device for verdict, _ in verify(["C2.2", "C1.10"], scale="smoke", out=tmp_path)}
    assert devices == {"C2.2": device_name(), "C1.10": ""}  # the runs of C1.10 are planted
    assert device_name().startswith("CPU, ") and device_name("cuda") == "cuda"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100")
    assert device_name("cuda") == "NVIDIA H100" and device_name("cpu") != "NVIDIA H100"


@pytest.mark.parametrize(
    ("statistic", "note"),
    [
        (over_seeds("s", np.array([0.02, 0.06, -0.01, 0.04]), "1", "", above(0)), "seeds would settle it"),
        (
            over_seeds("s", np.array([0.02, 0.03, 0.02, 0.04]), "1", "", above(0), shared_error=0.1),
            "more seeds alone would not settle it",
        ),
        (
            over_seeds("s", np.full(4, 0.1), "1", "mean", above(0)),
            "s: mean, equal in all 4 seeds, so its error is unknown",
        ),
        (
            over_seeds("s", np.array([0.02, 0.06, -0.01, 0.04]), "1", "", below_or_open(0)),
            "s: the value lies where the criterion leaves the claim open",
        ),
    ],
)
def test_the_note_says_what_would_settle_a_claim(
    statistic: Statistic, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def experiment(request: Request) -> Evidence:
        return Evidence(statistics=(statistic,), panels=(), runs=4, setting="four runs")

    monkeypatch.setitem(CLAIMS, "C1.5", replace(CLAIMS["C1.5"], experiment=experiment))
    ((verdict, _),) = verify("C1.5", scale="smoke", out=tmp_path)
    assert verdict.verdict == "inconclusive" and verdict.note.endswith(note)
    others = ("more seeds alone", "would settle it", "error is unknown", "leaves the claim open")
    assert sum(part in verdict.note for part in others if part not in note) == 0
    assert (verdict.seeds_needed is not None) == (note == "seeds would settle it")


def test_the_note_mentions_that_no_run_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plant_young(spec: SweepSpec, world: World, generator: np.random.Generator) -> PlantedStudy:
        planted = plant(spec, world, generator)
        return replace(planted, table=planted.table.assign(late=False))

    ((before, _),) = verify("C1.8", scale="smoke", out=tmp_path)
    assert "late" not in before.note
    monkeypatch.setattr(study, "plant", plant_young)
    ((verdict, _),) = verify("C1.8", scale="smoke", out=tmp_path)
    assert verdict.verdict == "inconclusive" and "no run is late" in verdict.note


def test_no_claim_takes_longer_than_ten_minutes_and_all_of_them_ninety() -> None:
    assert max(claim.minutes for claim in CLAIMS.values()) <= 10
    sweeps = json.loads((SCHEMAS.parent / "verdicts" / "sweeps.json").read_text())
    assert sum(sweep["seconds"] for sweep in sweeps.values()) <= 90 * 60


def test_a_best_width_out_of_reach_is_open_and_the_setting_names_the_missing_widths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best batch of the narrowest width is the end of its ladder, so doublings start at the next width."""

    def plant_best_at_end(spec: SweepSpec, world: World, generator: np.random.Generator) -> PlantedStudy:
        planted = plant(spec, world, generator)
        table = planted.table
        largest = (table.width == 8) & (table.batch_size == table.batch_size.max())
        return replace(planted, table=table.assign(test_accuracy=table.test_accuracy.mask(largest, 0.99)))

    experiment = CLAIMS["C1.10"].experiment
    assert experiment is not None
    monkeypatch.setattr(study, "plant", plant_best_at_end)
    evidence = experiment(Request("smoke", 0, tmp_path))
    names = [statistic.name[:22] for statistic in evidence.statistics]
    assert names == ["gain from width 16 to ", "gain from width 128 to"]
    assert "widths 16, 32" in evidence.setting and "not 8," in evidence.setting
    growing = experiment(Request("smoke", 0, tmp_path, null=True))
    assert joint_outcome(growing.statistics) == "inconclusive"


def test_peaks_are_interpolated_in_log_width() -> None:
    """The peak of a missing width is interpolated from its neighbors, which are equally far in log width."""
    widths = np.array([8.0, 16, 64, 128])
    peaks = np.outer(np.log2(widths), np.array([1.0, 2.0]))
    assert peaks_over_widths._at_width(peaks, widths, 32.0) == pytest.approx([5.0, 10.0])
    assert peaks_over_widths._at_width(peaks, widths, 16.0) == pytest.approx([4.0, 8.0])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["C9.9"], "C9.9"),
        (["park2018"], "park2018"),
        (["C2.2", "--scale", "huge"], "--scale"),
        (["C2.2", "--out", "file/inside"], "--out"),
    ],
)
def test_bad_input_gives_one_message(
    arguments: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    out = [] if "--out" in arguments else ["--out", "verdicts"]
    assert main(["verify", *arguments, *out]) == 2
    assert word in capsys.readouterr().err


def test_a_figure_without_points_is_drawn(tmp_path: Path) -> None:
    """Without an optimum at any width there are no points, and hours of training must still end in a page."""
    ((verdict, _),) = verify("C2.2", scale="smoke", out=tmp_path)
    nothing = np.array([])
    panel = Panel("width", "best noise", (Curve("none", nothing, nothing, nothing, nothing),), log_x=True, log_y=True)
    evidence = Evidence((), (panel,), 0, "")
    assert [page.name for page in write_verdict_pages([(verdict, evidence)], tmp_path)] == ["li2020.html"]
    assert (tmp_path / "C2.2.svg").exists()
