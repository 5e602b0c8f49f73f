"""Studies that claims share: planted at smoke size, trained once otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import spearmanr

from noisescale.claims import Request
from noisescale.claims.claim import NotRun
from noisescale.claims.device import device_name
from noisescale.claims.planted import World
from noisescale.claims.studies import (
    mnist1d,
    obtain,
    over_widths,
    standard_over_widths,
)
from noisescale.sweeps import SweepSpec


def tiny(first: int) -> list[SweepSpec]:
    """Two runs of twenty steps."""
    return [
        mnist1d(
            "tiny", first, 2, dataset={"train_size": 200, "test_size": 200},
            grid={"width": [8], "batch_size": [8]}, training={"steps": 20, "evaluations": 2},
        )
    ]  # fmt: skip


def test_a_study_is_trained_once(tmp_path: Path) -> None:
    request = Request("laptop", 3000, tmp_path)
    (first,) = obtain(request, tiny)
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    (second,) = obtain(request, tiny)
    assert shards and shards == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert list(first.runs().seed) == [3000, 3001]
    assert request.devices == 2 * [device_name()]
    assert first.runs().run_id.equals(second.runs().run_id)


def test_a_planted_study_has_the_cells_of_its_spec(tmp_path: Path) -> None:
    (study,) = obtain(Request("smoke", 0, tmp_path), over_widths)
    runs = study.runs()
    (spec,) = over_widths(0)
    grid = runs[runs.purpose == "sweep"]
    assert len(grid) == len(spec.grid.width) * len(spec.grid.batch_size) * len(spec.seeds)
    assert set(runs[runs.purpose == "stability"].status) == {"completed", "diverged"}
    (again,) = obtain(Request("smoke", 0, tmp_path), over_widths)
    (other,) = obtain(Request("smoke", 1000, tmp_path), over_widths)
    assert runs.test_accuracy.equals(again.runs().test_accuracy)
    assert not runs.test_accuracy.equals(other.runs().test_accuracy)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("build", [over_widths, standard_over_widths])
def test_exchanged_labels_have_nothing_to_do_with_the_widths(build, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    plain, shuffled = (
        obtain(Request("smoke", 0, tmp_path), build, World(gain=0.05, curvature=0.0, noise=0.0, shuffled=shuffled))[0]
        for shuffled in (False, True)
    )
    correlations = [
        spearmanr(runs.width, runs.test_accuracy).statistic
        for runs in (study.runs().query("purpose == 'sweep'") for study in (plain, shuffled))
    ]
    assert correlations[0] > 0.999 and abs(correlations[1]) < 0.1


def test_a_sweep_whose_time_is_up_is_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="runs of tiny are still to do"):
        obtain(Request("laptop", 3000, tmp_path, max_seconds=0.0), tiny)
    (study,) = obtain(Request("laptop", 3000, tmp_path), tiny)
    assert len(study.runs()) == 2
