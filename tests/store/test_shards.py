from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noisescale.errors import BadInput
from noisescale.runs import Run, RunResult
from noisescale.store import DamagedFile, finished_packs, move_damaged_shards, seal, write_atomically, write_shard
from noisescale.store.shards import read_shards, shard_path

MakeRun = Callable[..., Run]
MakeResult = Callable[..., RunResult]
WritePack = Callable[..., Path]


def frame_of(folder: Path) -> pd.DataFrame:
    table = read_shards(folder)
    assert table is not None
    frame: pd.DataFrame = table.to_pandas()
    return frame


def test_a_shard_opens_in_plain_pandas(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    runs = [make_run(seed=seed) for seed in range(3)]
    path = write_shard(tmp_path, "abc", [make_result(run) for run in runs])
    assert path == shard_path(tmp_path, "abc") == tmp_path / "abc.parquet"
    frame = pd.read_parquet(path)
    assert frame.run_id.tolist() == [run.run_id for run in runs]
    assert set(frame.pack_id) == {"abc"}
    assert frame.test_accuracy.tolist() == [0.9] * 3
    assert list(frame.curves[0]["test_loss"]) == [0.1, 0.5, 0.9]
    assert "torch" in frame.versions[0]
    assert finished_packs(tmp_path) == {"abc"}
    assert [name.name for name in tmp_path.iterdir()] == ["abc.parquet"]


def test_shards_of_both_purposes_are_one_frame(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    write_shard(tmp_path, "a", [make_result(make_run(), status="diverged")])
    write_shard(tmp_path, "b", [make_result(make_run(purpose="stability", seed=1))])
    frame = frame_of(tmp_path)
    assert frame.purpose.tolist() == ["sweep", "stability"]
    assert frame.diverged_at_step.isna().tolist() == [False, True]
    assert frame.test_loss.isna().all()


def test_a_shard_is_never_overwritten(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    path = write_shard(tmp_path, "a", [make_result(make_run())])
    before = path.read_bytes()
    write_shard(tmp_path, "a", [make_result(make_run(seed=5), accuracy=0.2)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_shards_are_written_without_hard_links(
    tmp_path: Path, make_run: MakeRun, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = write_shard(tmp_path, "a", [make_result(make_run())])
    before = path.read_bytes()
    write_shard(tmp_path, "a", [make_result(make_run(seed=5))])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_shards_are_written_where_folders_cannot_be_flushed(
    tmp_path: Path, make_run: MakeRun, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    path = write_shard(tmp_path, "a", [make_result(make_run())])
    assert len(frame_of(tmp_path)) == 1 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("target", ["os.fsync", "os.link"])
def test_after_a_full_disk_no_file_is_left_and_the_error_names_the_file(
    tmp_path: Path, make_run: MakeRun, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space") as raised:
        patch.setattr(target, full)
        write_shard(tmp_path, "a", [make_result(make_run())])
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.filename == str(tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_file_size_limit_acts_like_a_full_disk(tmp_path: Path) -> None:
    """The process may write files of at most 1 kB, so the kernel refuses the write. Python ignores SIGXFSZ."""
    program = f"""
import resource, sys
from pathlib import Path
from noisescale.store import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    write_atomically(Path({str(tmp_path)!r}) / "big", lambda file: file.write(bytes(4096)))
except OSError as error:
    sys.exit(error.filename)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == str(tmp_path / "big")
    assert list(tmp_path.iterdir()) == []


def test_a_kill_during_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = f"""
import os, signal
from pathlib import Path
from noisescale.store import write_atomically
def write(file):
    file.write(bytes(100_000))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path({str(path)!r}), write)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert finished_packs(tmp_path) == set()


def test_an_exception_during_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_shard_is_named(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    path = write_shard(tmp_path, "a", [make_result(make_run())])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match="a.parquet"):
        read_shards(tmp_path)


def test_every_flipped_bit_is_detected(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    path = write_shard(tmp_path, "a", [make_result(make_run(seed=seed)) for seed in range(3)])
    whole = path.read_bytes()
    generator = random.Random(0)
    # Test random positions in the whole file and all positions near its end, where footer, digest and length are.
    positions = sorted({*generator.sample(range(len(whole)), 300), *range(len(whole) - 200, len(whole))})
    for position in positions:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << generator.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(DamagedFile, match=r"a\.parquet"):
            read_shards(tmp_path)


def _foreign(table: pa.Table) -> dict[str, pa.Table]:
    """Return intact Parquet files that are not shards."""
    return {
        "another": pa.table({"a": [1, 2]}),
        "empty": pa.table({}),
        "without a key": table.drop_columns(["learning_rate"]),
        "of another type": table.set_column(0, table.column_names[0], pa.array([1] * len(table))),
        "curves of numbers": table.set_column(table.column_names.index("curves"), "curves", pa.array([1.0])),
        "twice the same name": table.append_column("width", table["width"]),
    }


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("kind", ["another", "empty", "without a key", "of another type", "curves of numbers",
                                  "twice the same name"])  # fmt: skip
def test_an_intact_file_that_is_not_a_shard_is_named_and_moved(
    kind: str, is_sealed: bool, tmp_path: Path, make_run: MakeRun, make_result: MakeResult, write_pack: WritePack
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    good = write_pack(shards, [make_result(make_run())])
    expected = frame_of(shards)
    table = _foreign(pq.read_table(good))[kind]
    file = shards / "foreign.parquet"
    if is_sealed:
        file.write_bytes(seal.seal_table(table))
    else:
        pq.write_table(table, file)
    for curves in (True, False):
        with pytest.raises(DamagedFile, match=r"foreign\.parquet"):
            read_shards(shards, curves=curves)
    assert move_damaged_shards(shards, tmp_path / "aside") == ["foreign.parquet"]
    pd.testing.assert_frame_equal(frame_of(shards), expected)


@pytest.mark.parametrize("length", [0, 3, 8, 100, -1, -9])
def test_a_truncated_shard_is_moved(
    length: int, tmp_path: Path, make_run: MakeRun, make_result: MakeResult, write_pack: WritePack
) -> None:
    shards, aside = tmp_path / "shards", tmp_path / "damaged"
    shards.mkdir()
    good, cut = (write_pack(shards, [make_result(make_run(seed=seed))]) for seed in range(2))
    cut.write_bytes(cut.read_bytes()[:length])
    assert move_damaged_shards(shards, aside) == [cut.name]
    assert [*shards.iterdir()] == [good] and [path.name for path in aside.iterdir()] == [cut.name]
    assert len(frame_of(shards)) == 1
    assert move_damaged_shards(shards, aside) == []


def test_a_newer_format_is_refused_and_stays(
    tmp_path: Path, make_run: MakeRun, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "_SINGLE_PACK_FORMAT", 3)
    path = write_shard(tmp_path, "a", [make_result(make_run())])
    with pytest.raises(BadInput, match="format 2 or older.*3"):
        read_shards(tmp_path)
    with pytest.raises(BadInput, match="update noisescale"):
        move_damaged_shards(tmp_path, tmp_path / "aside")
    assert path.exists()


def test_a_shard_without_a_digest_is_read(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    path = write_shard(tmp_path, "a", [make_result(make_run())])
    expected = frame_of(tmp_path)
    pq.write_table(pq.read_table(path).replace_schema_metadata(), path)
    pd.testing.assert_frame_equal(frame_of(tmp_path), expected)


def test_an_ignored_label_may_be_negative(
    tmp_path: Path, make_run: MakeRun, make_result: MakeResult, write_pack: WritePack
) -> None:
    """Torch's convention for targets that do not count is −100."""
    write_pack(tmp_path, [make_result(make_run(ignore_index=-100))])
    assert frame_of(tmp_path).ignore_index.tolist() == [-100]
