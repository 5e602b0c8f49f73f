from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from noisescale.errors import BadInput
from noisescale.sweeps import SweepSpec, estimates, sweep
from noisescale.sweeps.estimates import dry_run

MakeSpec = Callable[..., SweepSpec]


def test_a_dry_run_counts_the_runs_that_a_sweep_would_train(tmp_path: Path, make_spec: MakeSpec) -> None:
    out = tmp_path / "out"
    spec = make_spec(grid__width=[2, 4], stability__seeds=1, stability__steps=5)
    estimate = dry_run(spec, out)
    assert not out.exists()
    assert (estimate.runs, estimate.finished) == (2 * 2 * 2 + 2 * 7, 0)
    assert estimate.packs == 4
    assert estimate.steps == 8 * 12 + 14 * 5
    assert min(estimate.seconds, estimate.memory, estimate.disk) > 0
    assert any("22 (0 finished)" in line for line in estimate.lines())

    runs = sweep(spec, out, quiet=True).runs()
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    estimate = dry_run(spec, out)
    assert (estimate.runs, estimate.finished, estimate.packs, estimate.steps) == (len(runs), len(runs), 0, 0)
    assert estimate.seconds == 0
    grown = dry_run(make_spec(seeds=3, grid__width=[2, 4], stability__seeds=1, stability__steps=5), out)
    assert (grown.runs - grown.finished, grown.packs, grown.steps) == (4, 2, 4 * 12)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == files


def test_a_dry_run_notes_batch_sizes_below_the_ghost_size(tmp_path: Path, make_spec: MakeSpec) -> None:
    model = {"family": "mlp", "normalization": "ghost_batch", "ghost_size": 20}
    estimate = dry_run(make_spec(model=model, grid__batch_size=[10, 40], stability__price=False), tmp_path / "out")
    lines = [line for line in estimate.lines() if line.startswith("note ")]
    assert len(lines) == 1 and "batch sizes 10 are below model.ghost_size = 20" in lines[0]


@pytest.mark.usefixtures("two_cores")
def test_more_workers_take_less_time(tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    # Measured times differ from call to call, so the planned ones.
    monkeypatch.setattr(estimates, "measure_packs", lambda packs, *_: ([pack.seconds for pack in packs], []))
    spec = make_spec(grid__width=[2, 3, 4, 5])
    alone, shared = (dry_run(spec, tmp_path / "out", jobs=jobs).seconds for jobs in (1, 2))
    assert alone / 2 <= shared < alone


def test_a_dry_run_refuses_what_a_sweep_refuses(tmp_path: Path, make_spec: MakeSpec) -> None:
    with pytest.raises(BadInput, match="grid.batch_size"):
        dry_run(make_spec(grid__batch_size=[61]), tmp_path / "out")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BadInput, match="other files"):
        dry_run(make_spec(), tmp_path)
    with pytest.raises(BadInput, match="--device"):
        dry_run(make_spec(), tmp_path / "out", device="tpu")


def test_the_number_of_runs_comes_first_and_too_many_are_refused(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(seeds=1000, grid__width=list(range(2, 102)), grid__batch_size=list(range(1, 101)))
    with monkeypatch.context() as patch:
        patch.setattr("noisescale.sweeps.grid.load_dataset", None)
        for call in (dry_run, sweep):
            with pytest.raises(BadInput, match="at most 1,000,000 runs; --max-runs.* Got: 20,000,000 runs"):
                call(spec, tmp_path / "out")
    small = make_spec()
    with pytest.raises(BadInput, match="at most 3 runs"):
        sweep(small, tmp_path / "out", max_runs=3, quiet=True)
    assert dry_run(small, tmp_path / "out", max_runs=4).runs == 4
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_packed_is_said_before_anything_trains(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "looped.py").write_text(
        "from torch import nn\n\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, width):\n"
        "        super().__init__()\n"
        "        self.first, self.last = nn.Linear(64, width), nn.Linear(width, 10)\n\n"
        "    def forward(self, x):\n"
        "        h = self.first(x.flatten(1))\n"
        "        return self.last(h.relu() if h.sum().item() > 0 else h)\n\n\n"
        "def model(width, shape, classes):\n    return Net(width)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = make_spec(model__family="looped:model", grid__parameterization=["own"], stability__price=False)
    estimate = dry_run(spec, tmp_path / "out")
    (note,) = [line for line in estimate.lines() if line.startswith("note")]
    assert "one at a time" in note and ".item()" in note
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("two_cores")
def test_code_of_a_notebook_is_refused_for_several_workers_and_estimated_for_one(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = ModuleType("__main__")
    notebook.model = lambda width, shape, classes: nn.Sequential(  # type: ignore[attr-defined]
        nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)
    )
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    spec = make_spec(model__family="__main__:model", grid__parameterization=["own"], stability__price=False)
    with pytest.raises(BadInput, match="defined in this session only"):
        dry_run(spec, tmp_path / "out", jobs=2)
    assert dry_run(spec, tmp_path / "out", jobs=1).seconds > 0


def test_a_pack_that_cannot_be_timed_is_noted(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no memory for this")

    monkeypatch.setattr("noisescale.sweeps.measured_times.time_pack", fail)
    estimate = dry_run(make_spec(), tmp_path / "out")
    assert any("could not be timed: RuntimeError: no memory for this" in line for line in estimate.lines())
    assert estimate.seconds > 0


def test_packs_whose_steps_would_take_too_long_are_not_timed(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noisescale.sweeps.measured_times.time_pack", None)
    monkeypatch.setattr("noisescale.sweeps.measured_times.MEASURED_SECONDS", 0.0)
    estimate = dry_run(make_spec(), tmp_path / "out")
    assert estimate.seconds > 0 and "timed" not in " ".join(estimate.notes)


@pytest.mark.parametrize(("steps", "evaluations", "noted"), [(20, 20, True), (4000, 2, False)])
def test_evaluations_that_take_most_of_the_time_are_noted(
    steps: int, evaluations: int, noted: bool, tmp_path: Path, make_spec: MakeSpec
) -> None:
    spec = make_spec(training__steps=steps, training__evaluations=evaluations, stability__seeds=0)
    notes = dry_run(spec, tmp_path / "out").notes
    assert any("a smaller training.evaluations" in note for note in notes) == noted


@pytest.mark.parametrize("extensions", [0, 2])
def test_extensions_are_a_range(extensions: int, tmp_path: Path, make_spec: MakeSpec) -> None:
    estimate = dry_run(make_spec(training__max_extensions=extensions), tmp_path / "out")
    assert estimate.seconds_at_most / estimate.seconds == pytest.approx(2 ** (extensions + 1) - 1)
    assert any("if all ladders" in line for line in estimate.lines()) == bool(extensions)
