from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from noisescale.sweeps import Grid, SweepSpec, sweep
from noisescale.sweeps.kernel_record import KernelRecord
from noisescale.training import PackTrainer

MakeGrid = Callable[..., Grid]
MakeSpec = Callable[..., SweepSpec]


def test_the_first_choice_of_a_shape_stays(tmp_path: Path, make_grid: MakeGrid) -> None:
    runs = make_grid(grid__width=[2, 4], grid__learning_rate=[0.5, 1.0]).runs()
    narrow, wide = ([run for run in runs if run.width == width] for width in (2, 4))
    record = KernelRecord(tmp_path / "kernels", "cpu", 1)
    assert record.read(narrow[0]) == "auto"
    assert record.store(narrow[0], "vmap 8") == "vmap 8"
    # Another worker measured a different choice for runs of the same shape.
    assert record.store(narrow[-1], "loop 2") == "vmap 8"
    assert record.read(wide[0]) == "auto"
    assert KernelRecord(tmp_path / "kernels", "cpu", 2).read(narrow[0]) == "auto"
    assert [path.suffix for path in (tmp_path / "kernels").iterdir()] == [".txt"]


def test_a_sweep_uses_one_kernel_for_packs_of_one_shape(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gelu_model.py").write_text(
        "from math import prod\nfrom torch import nn\ndef factory(width, shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), width), nn.GELU(), nn.Linear(width, classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = make_spec(model={"family": "gelu_model:factory"})
    first = sweep(spec, tmp_path / "out", quiet=True).runs()
    assert first.kernel.isin(["vmap", "loop"]).all()
    asked = []
    made = PackTrainer.__init__

    def init(trainer: PackTrainer, *arguments: object, kernel: str = "auto", **options: object) -> None:
        asked.append(kernel)
        made(trainer, *arguments, kernel=kernel, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(PackTrainer, "__init__", init)
    seeds = [*spec.seeds, max(spec.seeds) + 1]
    sweep(spec.model_copy(update={"seeds": tuple(seeds)}), tmp_path / "out", jobs=1, quiet=True)
    assert asked and {choice.split()[0] for choice in asked} <= {"vmap", "loop"}


def test_the_record_works_without_hard_links(
    tmp_path: Path, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    run, record = make_grid().runs()[0], KernelRecord(tmp_path / "kernels", "cpu", 1)
    assert record.store(run, "vmap 8") == record.store(run, "loop 2") == "vmap 8"
    next((tmp_path / "kernels").iterdir()).write_text("nonsense")
    assert record.store(run, "loop 2") == "loop 2"
    assert [path.suffix for path in (tmp_path / "kernels").iterdir()] == [".txt"]
