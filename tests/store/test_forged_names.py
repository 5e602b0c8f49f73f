"""Names in footers and of files cannot lead out of the folder of shards, or stand for the results of other packs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from noisescale.errors import BadInput
from noisescale.runs import Run, RunResult
from noisescale.store import Study, compact, finished_packs, move_damaged_shards, seal, write_shard

MakeRun = Callable[..., Run]
MakeResult = Callable[..., RunResult]
WritePack = Callable[..., Path]
JOINED = "packs-0123456789abcdef.parquet"


@pytest.fixture
def shards(tmp_path: Path, make_run: MakeRun, make_result: MakeResult, write_pack: WritePack) -> Path:
    folder = tmp_path / "study" / "shards"
    folder.mkdir(parents=True)
    (folder.parent / "spec.json").write_text("{}")
    for seed in range(3):
        write_pack(folder, [make_result(make_run(seed=seed))])
    for victim in (tmp_path / "victim.parquet", folder.parent / "victim.parquet"):
        victim.write_text("somebody's file")
    return folder


def first(shards: Path) -> Path:
    return sorted(shards.glob("*.parquet"))[0]


@pytest.mark.parametrize(
    "names", [["../victim"], ["../../victim"], ["a", "../../victim"], ["/victim"], ["."], [".."], ["a/b"], ["\x1b[2J"]]
)
def test_a_footer_that_leads_out_of_the_folder_deletes_nothing(names: list[str], shards: Path, tmp_path: Path) -> None:
    absolute = [str(tmp_path / "victim") if name == "/victim" else name for name in names]
    (shards / JOINED).write_bytes(seal.seal_table(pq.read_table(first(shards)), absolute))
    with pytest.raises(BadInput, match="ids that are not those of packs") as message:
        finished_packs(shards)
    assert str(message.value).isprintable()
    with pytest.raises(BadInput, match="ids that are not those of packs"):
        compact(shards)
    assert move_damaged_shards(shards, shards.parent / "damaged") == [JOINED]
    assert compact(shards, max_single=0) == 3
    for victim in (tmp_path / "victim.parquet", shards.parent / "victim.parquet"):
        assert victim.read_text() == "somebody's file"
    assert len(Study.open(shards.parent).runs()) == 3


@pytest.mark.parametrize("places", [[0, 1], [1], [0, 1, 2]])
@pytest.mark.parametrize("others", [[], ["planned"]])
def test_a_footer_cannot_stand_for_packs_whose_runs_it_lacks(
    places: list[int], others: list[str], shards: Path
) -> None:
    """Else the shards of these packs are removed as joined, and planned packs are never trained."""
    packs = [path.stem for path in sorted(shards.glob("*.parquet"))]
    names = [packs[place] for place in places] + others
    (shards / JOINED).write_bytes(seal.seal_table(pq.read_table(first(shards)), names))
    assert move_damaged_shards(shards, shards.parent / "damaged") == [JOINED]
    assert compact(shards) == 0
    assert finished_packs(shards) == {*packs}


@pytest.mark.parametrize("name", ["0123456789abcdef", "a b", "x\x1b[2J", "packs"])
def test_a_shard_under_the_name_of_another_pack_is_moved(name: str, shards: Path) -> None:
    path = shards / f"{name}.parquet"
    before = finished_packs(shards)
    path.write_bytes(first(shards).read_bytes())
    assert move_damaged_shards(shards, shards.parent / "damaged") == [path.name]
    assert compact(shards, max_single=0) == 3
    assert finished_packs(shards) == before


@pytest.mark.parametrize("changes", [{"width": 64}, {"seed": 9}, {"learning_rate": 0.25}])
def test_a_shard_with_the_runs_of_another_pack_is_moved(
    changes: dict[str, object], shards: Path, make_run: MakeRun, make_result: MakeResult
) -> None:
    """Else the sweep would train the pack again and again, because a shard is never overwritten."""
    path = first(shards)
    pack = path.stem
    path.unlink()
    write_shard(shards, pack, [make_result(make_run(**changes))])
    assert move_damaged_shards(shards, shards.parent / "damaged") == [path.name]
    assert pack not in finished_packs(shards)
