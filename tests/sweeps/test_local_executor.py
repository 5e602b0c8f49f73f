"""The local executor with real worker processes. There are few tests, because importing torch in each takes long."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from noisescale.laws import fit
from noisescale.sweeps import SweepSpec, failures, sweep
from noisescale.sweeps.folder_status import status
from noisescale.sweeps.worker import start_worker

MakeSpec = Callable[..., SweepSpec]

Misbehaving = Callable[[str, str, str], str]


@pytest.mark.usefixtures("two_cores")
def test_a_worker_that_dies_costs_only_its_pack(
    tmp_path: Path, make_spec: MakeSpec, misbehaving: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    when = "width == 7 and multiprocessing.parent_process() is not None and os.path.exists('deadly')"
    family = misbehaving("deadly_model", when, "os.kill(os.getpid(), 9)")
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
    log = (tmp_path / "out" / "log.txt").read_text().splitlines()
    # The pack of four runs starts again with all runs at once, then with two, then with one.
    assert [line.rpartition(";")[2] for line in log if "starting again" in line] == [
        f" starting again, {count} runs at once" for count in (4, 2, 1)
    ]
    assert all("width 7" in line and "learning_rate 0.5 to 1.0" in line and "seed 0 to 1" in line
               for line in log if "starting again" in line)  # fmt: skip
    state = status(tmp_path / "out")
    assert state.missing == 4
    assert "4 runs at" in (line := next(iter(state.failed.values()))) and "width 7" in line and "died" in line
    deadly.unlink()
    again = sweep(spec, tmp_path / "out", jobs=1, quiet=True).runs()
    assert set(again.width) == {3, 4, 7} and (again.status == "completed").all()
    assert failures(tmp_path / "out") == {}


@pytest.mark.usefixtures("two_cores")
def test_a_pack_that_kills_its_workers_is_halved_until_it_fits(
    tmp_path: Path, make_spec: MakeSpec, misbehaving: Misbehaving
) -> None:
    """With more than two runs at once the model kills its worker, as the system does when memory runs out."""
    frames = "(call.frame for call in __import__('inspect').stack() if call.function == '_train_together')"
    when = (
        f"multiprocessing.parent_process() and max((len(frame.f_locals['runs']) for frame in {frames}), default=0) > 2"
    )
    family = misbehaving("heavy_model", when, "os.kill(os.getpid(), 9)")
    spec = make_spec(model__family=family, grid__width=[3], seeds=2)
    study = sweep(spec, tmp_path / "out", jobs=2, quiet=True)
    runs = study.finished()
    assert len(runs) == 4 and failures(tmp_path / "out") == {}
    assert "trained in halves" in (tmp_path / "out" / "log.txt").read_text()
    calm = sweep(spec, tmp_path / "calm", jobs=1, quiet=True).finished().set_index("run_id")
    assert runs.set_index("run_id").test_accuracy.sort_index().equals(calm.test_accuracy.sort_index())


def test_workers_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", used.append)
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)
    monkeypatch.setattr("torch.set_flush_denormal", lambda mode: None)
    monkeypatch.setattr("multiprocessing.parent_process", multiprocessing.current_process)
    monkeypatch.setattr("threading.Thread.start", lambda thread: None)
    for device, slot in (("cuda", 0), ("cuda", 1), ("cpu", 2), ("cuda", 2)):
        start_worker(1, device, slot)
    assert used == [0, 1, 0]
