"""Studies that claims share: planted at smoke size, trained once otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import spearmanr

from noisescale.claims import CLAIMS, Request, studies, verify
from noisescale.claims.claim import NotRun
from noisescale.claims.gpu_studies import GPU_STUDIES
from noisescale.claims.planted import World
from noisescale.claims.studies import mnist1d, obtain, over_widths, standard_over_widths
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


@pytest.mark.parametrize("name", GPU_STUDIES)
def test_every_sweep_of_a_gpu_is_a_spec(name: str) -> None:
    study = GPU_STUDIES[name]
    assert callable(getattr(studies, name)) and study.setting and study.differs
    names = [spec.name for spec in study.build(1000)]
    assert all(own.startswith("gpu-") for own in names)
    assert all(min(spec.seeds) == 1000 for spec in study.build(1000))


def test_claims_say_truly_whether_they_have_sweeps_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is asked at that scale, with sweeps that end at once."""
    asked: list[str] = []

    def stop(spec: SweepSpec, request: Request) -> None:
        asked.append(spec.name)
        raise NotRun("stopped")

    monkeypatch.setattr(studies, "trained", stop)
    for claim in CLAIMS.values():
        if claim.at_gpu:
            assert claim.experiment is not None
            request = Request("gpu", 0, tmp_path)
            with pytest.raises(NotRun, match="stopped"):
                claim.experiment(request)
            assert request.used
    assert asked


def test_at_gpu_scale_the_verdict_says_what_differs_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "trained", lambda spec, request: stop())

    def stop() -> None:
        raise NotRun("7 runs are still to do")

    ((verdict, evidence),) = verify("C1.3", scale="gpu", out=tmp_path)
    assert evidence is None and verdict.verdict == "not run"
    assert "7 runs" in verdict.note and "Fashion-MNIST" in verdict.differs
