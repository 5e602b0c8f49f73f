"""Joining many shards (result files) into few keeps all runs, even if a kill or a reader comes in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.runs import Run, RunResult
from noisescale.store import Study, compact, compaction, finished_packs, move_damaged_shards, seal, write_shard
from noisescale.store.shards import JOINED_PREFIX

MakeRun = Callable[..., Run]
MakeResult = Callable[..., RunResult]
WritePack = Callable[..., Path]
PACKS = 12


@pytest.fixture
def study(tmp_path: Path, make_run: MakeRun, make_result: MakeResult, write_pack: WritePack) -> Path:
    shards = tmp_path / "shards"
    shards.mkdir()
    (tmp_path / "spec.json").write_text("{}")
    for number in range(PACKS):
        purpose = "stability" if number % 3 == 0 else "sweep"
        runs = [make_run(seed=2 * number + offset, purpose=purpose) for offset in (0, 1)]
        write_pack(shards, [make_result(run) for run in runs])
    return tmp_path


def tables(folder: Path) -> list[pd.DataFrame]:
    study = Study.open(folder)
    return [study.runs().sort_index(axis=1), study.curves(), study.layers()]


def assert_same(tables: list[pd.DataFrame], expected: list[pd.DataFrame]) -> None:
    for table, expected_table in zip(tables, expected, strict=True):
        keys = [name for name in ("run_id", "step", "layer") if name in table]
        pd.testing.assert_frame_equal(
            table.sort_values(keys, ignore_index=True), expected_table.sort_values(keys, ignore_index=True)
        )


def test_joined_shards_hold_the_same_runs(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, packs = tables(study), finished_packs(study / "shards")
    monkeypatch.setattr(compaction, "_MAX_PACKS", 5)
    assert compact(study / "shards", max_single=PACKS) == 0
    assert compact(study / "shards", max_single=PACKS - 1) == PACKS
    files = sorted(path.name for path in (study / "shards").iterdir())
    assert len(files) == 3 and all(name.startswith(JOINED_PREFIX) for name in files)
    assert finished_packs(study / "shards") == packs
    assert_same(tables(study), expected)
    assert compact(study / "shards", max_single=0) == 0


def test_new_shards_are_added_to_joined_shards(study: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    compact(study / "shards", max_single=1)
    write_shard(study / "shards", "late", [make_result(make_run(seed=1000))])
    assert len(Study.open(study).runs()) == 2 * PACKS + 1
    assert compact(study / "shards", max_single=0) == 1
    assert len(Study.open(study).runs()) == 2 * PACKS + 1
    assert len(list((study / "shards").iterdir())) == 2


def test_a_kill_between_joining_and_removing_loses_no_run(study: Path) -> None:
    expected, shards = tables(study), study / "shards"
    compaction._join(shards, sorted(shards.iterdir())[:4])  # a kill at this point leaves the joined shards in place
    assert len(list(shards.iterdir())) == PACKS + 1
    assert len(finished_packs(shards)) == PACKS
    assert_same(tables(study), expected)
    assert compact(shards) == 4
    assert len(list(shards.iterdir())) == PACKS - 3
    assert_same(tables(study), expected)


def test_a_damaged_joined_file_loses_only_its_packs(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_MAX_PACKS", 5)
    compact(study / "shards", max_single=0)
    damaged = sorted((study / "shards").iterdir())[0]
    lost = set(seal.packs_in_footer(damaged))
    before = finished_packs(study / "shards")
    data = bytearray(damaged.read_bytes())
    data[len(data) // 3] ^= 1
    damaged.write_bytes(data)
    assert move_damaged_shards(study / "shards", study / "damaged") == [damaged.name]
    assert finished_packs(study / "shards") == before - lost
    assert len(Study.open(study).runs()) == 2 * (PACKS - len(lost))


def test_a_damaged_shard_is_not_joined(study: Path) -> None:
    path = sorted((study / "shards").iterdir())[3]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadInput, match=path.name):
        compact(study / "shards", max_single=0)
    assert len(list((study / "shards").iterdir())) == PACKS


def test_a_version_without_joined_files_refuses_them(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compact(study / "shards", max_single=0)
    monkeypatch.setattr(seal, "FORMAT", 1)
    with pytest.raises(BadInput, match="format 1 or older.*2"):
        Study.open(study).runs()


def test_a_reader_finds_shards_that_are_joined_meanwhile(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, read = tables(study), Path.read_bytes
    fifth, joined = sorted((study / "shards").iterdir())[5], []

    def read_late(path: Path) -> bytes:
        if path == fifth and not joined:
            joined.append(True)
            compact(study / "shards", max_single=0)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_late)
    assert len(Study.open(study).runs()) == len(expected[0])
    assert joined
