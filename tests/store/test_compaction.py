"""Many shards joined to few: the same runs, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.runs import Run, RunResult
from noisescale.store import Study, compact, compaction, finished_packs, move_damaged_shards, seal, write_shard
from noisescale.store.shards import TOGETHER

MakeRun = Callable[..., Run]
MakeResult = Callable[..., RunResult]
PACKS = 12


@pytest.fixture
def study(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> Path:
    shards = tmp_path / "shards"
    shards.mkdir()
    (tmp_path / "spec.json").write_text("{}")
    for number in range(PACKS):
        purpose = "stability" if number % 3 == 0 else "sweep"
        runs = [make_run(seed=2 * number + own, purpose=purpose) for own in (0, 1)]
        write_shard(shards, f"pack{number:02}", [make_result(run) for run in runs])
    return tmp_path


def tables(folder: Path) -> list[pd.DataFrame]:
    study = Study.open(folder)
    return [study.runs().sort_index(axis=1), study.curves(), study.layers()]


def assert_same(found: list[pd.DataFrame], known: list[pd.DataFrame]) -> None:
    for one, other in zip(found, known, strict=True):
        keys = [name for name in ("run_id", "step", "layer") if name in one]
        pd.testing.assert_frame_equal(
            one.sort_values(keys, ignore_index=True), other.sort_values(keys, ignore_index=True)
        )


def test_joined_shards_hold_what_the_single_ones_held(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, packs = tables(study), finished_packs(study / "shards")
    monkeypatch.setattr(compaction, "_PACKS", 5)
    assert compact(study / "shards", most=PACKS) == 0
    assert compact(study / "shards", most=PACKS - 1) == PACKS
    files = sorted(path.name for path in (study / "shards").iterdir())
    assert len(files) == 3 and all(name.startswith(TOGETHER) for name in files)
    assert finished_packs(study / "shards") == packs
    assert_same(tables(study), known)
    assert compact(study / "shards", most=0) == 0


def test_more_shards_come_beside_joined_ones(study: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    compact(study / "shards", most=1)
    write_shard(study / "shards", "late", [make_result(make_run(seed=1000))])
    assert len(Study.open(study).runs()) == 2 * PACKS + 1
    assert compact(study / "shards", most=0) == 1
    assert len(Study.open(study).runs()) == 2 * PACKS + 1
    assert len(list((study / "shards").iterdir())) == 2


def test_a_kill_between_joining_and_removing_costs_nothing(study: Path) -> None:
    known, shards = tables(study), study / "shards"
    compaction._join(shards, sorted(shards.iterdir())[:4])  # and no more
    assert len(list(shards.iterdir())) == PACKS + 1
    assert len(finished_packs(shards)) == PACKS
    assert_same(tables(study), known)
    assert compact(shards) == 4
    assert len(list(shards.iterdir())) == PACKS - 3
    assert_same(tables(study), known)


def test_a_damaged_joined_file_gives_up_its_packs_and_no_others(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_PACKS", 5)
    compact(study / "shards", most=0)
    spoiled = sorted((study / "shards").iterdir())[0]
    own = set(seal.packs_in_footer(spoiled))
    before = finished_packs(study / "shards")
    data = bytearray(spoiled.read_bytes())
    data[len(data) // 3] ^= 1
    spoiled.write_bytes(data)
    assert move_damaged_shards(study / "shards", study / "damaged") == [spoiled.name]
    assert finished_packs(study / "shards") == before - own
    assert len(Study.open(study).runs()) == 2 * (PACKS - len(own))


def test_a_damaged_shard_is_not_joined(study: Path) -> None:
    path = study / "shards" / "pack03.parquet"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadInput, match="pack03"):
        compact(study / "shards", most=0)
    assert len(list((study / "shards").glob("pack*"))) == PACKS


def test_a_version_without_joined_files_refuses_them(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compact(study / "shards", most=0)
    monkeypatch.setattr(seal, "FORMAT", 1)
    with pytest.raises(BadInput, match="format 1 or older.*2"):
        Study.open(study).runs()


def test_a_reader_follows_files_that_are_joined_meanwhile(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, read = tables(study), Path.read_bytes
    joined = []

    def read_late(path: Path) -> bytes:
        if path.name == "pack05.parquet" and not joined:
            joined.append(True)
            compact(study / "shards", most=0)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_late)
    assert len(Study.open(study).runs()) == len(known[0])
    assert joined
