"""Real worker processes: few tests, because each process imports torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from noisescale.laws import fit
from noisescale.sweeps import SweepSpec, failures, sweep
from noisescale.sweeps.status import status

MakeSpec = Callable[..., SweepSpec]

Misbehaving = Callable[[str, str, str], str]


def test_a_worker_that_dies_costs_only_its_own_pack(
    tmp_path: Path, make_spec: MakeSpec, misbehaving: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    when = "width == 7 and multiprocessing.parent_process() is not None and os.path.exists('deadly')"
    family = misbehaving("deadly_model", when, "os._exit(3)")
    deadly = tmp_path / "deadly"
    deadly.touch()
    spec = make_spec(model__family=family, grid__width=[3, 4, 7])
    study = sweep(spec, tmp_path / "out", jobs=2, quiet=True)
    assert set(study.finished().width) == {3, 4}
    runs = study.runs()
    assert runs[runs.status == "failed"].width.tolist() == [7] * 4
    assert runs[runs.status == "failed"].test_accuracy.isna().all()
    assert fit(study).groups[0].series[0].widths[-1].width == 4
    (error,) = failures(tmp_path / "out").values()
    assert "died" in error
    found = status(tmp_path / "out")
    assert found.missing == 4
    assert "4 runs at" in (line := next(iter(found.failed.values()))) and "width 7" in line and "died" in line
    deadly.unlink()
    again = sweep(spec, tmp_path / "out", jobs=1, quiet=True).runs()
    assert set(again.width) == {3, 4, 7} and (again.status == "completed").all()
    assert failures(tmp_path / "out") == {}
