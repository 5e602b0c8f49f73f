from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps import SweepSpec, sweep
from noisescale.sweeps.folder import (
    check_folder,
    continued_spec,
    create_folder,
    prepare_folder,
)
from noisescale.sweeps.lock import driver_lock, is_driven

MakeSpec = Callable[..., SweepSpec]


@pytest.fixture
def folder(tmp_path: Path, make_spec: MakeSpec) -> Path:
    path = tmp_path / "out"
    create_folder(path)
    prepare_folder(path, make_spec())
    return path


def test_a_folder_is_created_and_continued(folder: Path, make_spec: MakeSpec) -> None:
    before = (folder / "spec.json").stat().st_mtime_ns
    prepare_folder(folder, make_spec())
    assert (folder / "spec.json").stat().st_mtime_ns == before
    assert {path.name for path in folder.iterdir()} == {"spec.json", "shards", "failures", "unfinished"}


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": 5},
        {"seeds": [1, 0, 7]},
        {"grid__width": [1, 2]},
        {"grid__learning_rate": [0.25, 0.5, 1.0]},
        {"grid__momentum": [0.0, 0.9], "grid__batch_size": [5, 10]},
    ],
)
def test_a_larger_spec_is_accepted(folder: Path, make_spec: MakeSpec, changes: dict[str, Any]) -> None:
    prepare_folder(folder, make_spec(**changes))
    assert json.loads((folder / "spec.json").read_text()) == json.loads(make_spec(**changes).model_dump_json())


def test_a_longer_ladder_counts_as_a_larger_grid(tmp_path: Path, make_spec: MakeSpec) -> None:
    steps = {"from": 0.25, "factor": 1.4142135623730951}
    create_folder(tmp_path / "out")
    prepare_folder(tmp_path / "out", make_spec(grid__learning_rate={**steps, "to": 8.0}))
    prepare_folder(tmp_path / "out", make_spec(grid__learning_rate={**steps, "to": 128.0}))


@pytest.mark.parametrize("stored", [True, "a spec without the key"])
def test_a_folder_that_standardized_whole_numbers_continues_so(
    folder: Path, make_spec: MakeSpec, stored: bool | str
) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    del spec["dataset"]["standardize"]
    if stored is True:
        spec["dataset"]["standardize"] = True
    (folder / "spec.json").write_text(json.dumps(spec))
    assert continued_spec(folder, make_spec()).dataset.standardize is True
    prepare_folder(folder, make_spec())
    assert json.loads((folder / "spec.json").read_text())["dataset"]["standardize"] is True
    with pytest.raises(BadInput, match="dataset.standardize"):
        check_folder(folder, make_spec(dataset__standardize=False))


def test_a_folder_without_a_stated_standardization_stays_so(folder: Path, make_spec: MakeSpec) -> None:
    assert continued_spec(folder, make_spec()).dataset.standardize is None
    check_folder(folder, make_spec(dataset__standardize=True))


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"training__steps": 13}, ["training.steps"]),
        ({"grid__width": [4]}, ["grid.width"]),
        ({"seeds": 1}, ["seeds"]),
        ({"grid__learning_rate": None, "grid__temperature": [0.1]}, ["grid.learning_rate", "grid.temperature"]),
        ({"name": "other", "model__depth": 2, "seeds": 5}, ["model.depth", "name"]),
        ({"training__schedule": {"kind": "constant"}, "fit__metric": "loss"}, ["fit.metric"]),
        ({"grid__schedule": [{"kind": "cosine"}]}, ["grid.schedule"]),
        ({"training__schedule": {"kind": "cosine"}}, ["training.schedule.kind"]),
        ({"dataset__data_seed": 1}, ["dataset.data_seed"]),
    ],
)
def test_any_other_difference_is_refused_by_key(
    folder: Path, make_spec: MakeSpec, changes: dict[str, Any], keys: list[str]
) -> None:
    before = (folder / "spec.json").read_bytes()
    with pytest.raises(BadInput) as refused:
        prepare_folder(folder, make_spec(**changes))
    assert str(refused.value).endswith(f"Got: other values of {', '.join(keys)}.")
    assert (folder / "spec.json").read_bytes() == before


def test_folders_with_other_files_are_refused_and_unchanged(tmp_path: Path, make_spec: MakeSpec) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadInput, match="other files"):
        check_folder(tmp_path, make_spec())
    with pytest.raises(BadInput, match="a file"):
        check_folder(tmp_path / "thesis.tex", make_spec())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_a_damaged_spec_is_named(folder: Path, make_spec: MakeSpec, text: str) -> None:
    (folder / "spec.json").write_text(text)
    with pytest.raises(BadInput, match="spec.json"):
        check_folder(folder, make_spec())


def test_a_path_with_an_impossible_name_is_refused(tmp_path: Path, make_spec: MakeSpec) -> None:
    with pytest.raises(BadInput, match="can be created") as caught:
        check_folder(tmp_path / ("x" * 300), make_spec())
    assert len(str(caught.value)) < 250


def test_a_folder_of_a_driver_killed_at_its_start_is_accepted(tmp_path: Path, make_spec: MakeSpec) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / ".spec.json.123.tmp").write_text('{"na')
    prepare_folder(tmp_path, make_spec())
    assert {path.name for path in tmp_path.iterdir()} == {"spec.json", "shards", "failures", "lock", "unfinished"}


def test_leftovers_of_killed_writers_are_removed(folder: Path, make_spec: MakeSpec) -> None:
    leftover, foreign = folder / "shards" / ".abc.parquet.77.tmp", folder / "report" / ".page.tmp"
    foreign.parent.mkdir()
    for path in (leftover, foreign):
        path.write_text("half a fi")
    prepare_folder(folder, make_spec())
    assert not leftover.exists()
    assert foreign.exists()  # another command wrote this file


def test_a_path_that_cannot_be_created_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="file/out"):
        create_folder(tmp_path / "file" / "out")

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError, match="No space"):
        create_folder(tmp_path / "out")


def test_a_folder_has_one_driver(folder: Path) -> None:
    assert not is_driven(folder)
    with driver_lock(folder):
        assert is_driven(folder)
        with pytest.raises(BadInput, match=f"one driver per folder.* process {os.getpid()} on .* since 2"):
            driver_lock(folder).__enter__()
    assert not is_driven(folder)
    assert (folder / "lock").read_text() == ""


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"\x1b[2Jnobody", b"nobody\n" * 100])
def test_a_lock_file_with_any_content_is_a_lock(folder: Path, text: bytes) -> None:
    with driver_lock(folder):
        (folder / "lock").write_bytes(text)
        with pytest.raises(BadInput, match="Got: a sweep that is running there.$"):
            driver_lock(folder).__enter__()


def test_the_name_of_a_killed_driver_is_overwritten(folder: Path) -> None:
    (folder / "lock").write_text("process 1 on another since 1970-01-01, and much more than the next will say" * 3)
    with driver_lock(folder):
        assert (folder / "lock").read_text().startswith(f"process {os.getpid()} on ")
        assert "another" not in (folder / "lock").read_text()


def test_reading_the_lock_does_not_keep_a_driver_out(folder: Path) -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_driven(folder)

    (folder / "lock").touch()
    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(20):
            with driver_lock(folder):
                time.sleep(0.001)
    finally:
        stop.set()
        looking.join()


def test_without_locks_a_folder_can_be_read_but_not_driven(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    (folder / "lock").touch()
    monkeypatch.setattr("fcntl.flock", refuse)
    assert not is_driven(folder)
    with pytest.raises(BadInput, match=r"locks \(flock\).*Got: No locks available"):
        driver_lock(folder).__enter__()


def test_a_folder_in_the_place_of_a_failure_does_not_end_a_sweep(tmp_path: Path, make_spec: MakeSpec) -> None:
    sweep(make_spec(), tmp_path / "out", jobs=1, quiet=True)
    (shard,) = (tmp_path / "out" / "shards").iterdir()
    shard.unlink()
    (tmp_path / "out" / "failures" / f"{shard.stem}.json").mkdir()
    assert len(sweep(make_spec(), tmp_path / "out", jobs=1, quiet=True).runs()) == 4
