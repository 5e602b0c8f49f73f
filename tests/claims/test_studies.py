"""Studies that claims share are planted at smoke scale, and trained once at other scales."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import spearmanr

from noisescale.claims import ClaimStudy, NotRun, Request, World, obtain
from noisescale.claims.provenance import device_name
from noisescale.claims.studies.specs import mnist1d_spec
from noisescale.claims.studies.widths import OVER_WIDTHS, STANDARD_OVER_WIDTHS
from noisescale.sweeps import SweepSpec


def two_runs(first: int) -> list[SweepSpec]:
    spec = mnist1d_spec(
        "tiny", first, 2, dataset={"train_size": 200, "test_size": 200}, grid={"width": [8], "batch_size": [8]},
        training={"steps": 20, "evaluations": 2},
    )  # fmt: skip
    return [spec]


TINY = ClaimStudy("two runs of twenty steps", two_runs)


def test_a_study_is_trained_once(tmp_path: Path) -> None:
    request = Request("laptop", 3000, tmp_path)
    first = obtain(request, TINY)
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    second = obtain(request, TINY)
    assert shards and shards == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert list(first.study.runs().seed) == [3000, 3001]
    assert first.study.runs().run_id.equals(second.study.runs().run_id)
    both = (first + second).provenance
    assert both.trained == ("tiny", "tiny") and both.planted == ()
    assert both.devices == (device_name(),) and both.device == device_name()


def test_a_planted_study_has_the_cells_of_its_spec(tmp_path: Path) -> None:
    sweeps = obtain(Request("smoke", 0, tmp_path), OVER_WIDTHS)
    runs = sweeps.study.runs()
    (spec,) = OVER_WIDTHS.specs("laptop", 0)
    grid = runs[runs.purpose == "sweep"]
    assert len(grid) == len(spec.grid.width) * len(spec.grid.batch_size) * len(spec.seeds)
    assert set(runs[runs.purpose == "stability"].status) == {"completed", "diverged"}
    again = obtain(Request("smoke", 0, tmp_path), OVER_WIDTHS).study.runs()
    other = obtain(Request("smoke", 1000, tmp_path), OVER_WIDTHS).study.runs()
    assert runs.test_accuracy.equals(again.test_accuracy)
    assert not runs.test_accuracy.equals(other.test_accuracy)
    assert not list(tmp_path.iterdir())
    assert sweeps.provenance.planted == ("over-widths",) and sweeps.provenance.device == ""


@pytest.mark.parametrize("study", [OVER_WIDTHS, STANDARD_OVER_WIDTHS], ids=["ntk", "standard"])
def test_permuted_labels_are_unrelated_to_the_widths(study: ClaimStudy, tmp_path: Path) -> None:
    correlations = []
    for shuffled in (False, True):
        world = World(gain=0.05, curvature=0.0, noise=0.0, shuffled=shuffled)
        runs = obtain(Request("smoke", 0, tmp_path), study, world).study.runs().query("purpose == 'sweep'")
        correlations.append(spearmanr(runs.width, runs.test_accuracy).statistic)
    assert correlations[0] > 0.999 and abs(correlations[1]) < 0.1


def test_a_sweep_whose_time_is_up_continues_with_the_next_request(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="runs of tiny are still to do"):
        obtain(Request("laptop", 3000, tmp_path, max_seconds=0.0), TINY)
    assert len(obtain(Request("laptop", 3000, tmp_path), TINY).study.runs()) == 2


def test_a_study_without_sweeps_at_a_scale_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="at this scale"):
        obtain(Request("gpu", 0, tmp_path), TINY)
    with pytest.raises(NotRun, match="at this scale"):
        obtain(Request("laptop", 0, tmp_path), ClaimStudy("nothing"))
