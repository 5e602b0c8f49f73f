"""Many shards as few: a folder of thousands of files is slow to list, to check and to read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from noisescale.store.seal import sealed, unsealed
from noisescale.store.shards import SUFFIX, TOGETHER, all_columns, packs_of, with_later_keys, write_atomically

# Shards of single packs that a folder may hold before they are joined: reading a run from one costs as much as reading
# a hundred from a joined file (benchmarks/results/scale.md).
MOST_SHARDS = 2000

# Bytes and packs of a joined file: what is lost at most, and trained again, when one is damaged.
_BYTES, _PACKS = 2**25, 1000


def compact(folder: Path, most: int = MOST_SHARDS) -> int:
    """Join a folder's shards of single packs where there are more than `most`; the caller holds the folder's lock.

    A joined file is there whole before the first of its shards is removed, and readers count a run once, so that a kill
    at any moment loses nothing and counts nothing twice; what it left is cleared by the next call.

    Returns:
        How many shards were removed.

    Raises:
        DamagedFile: A shard is not as it was written. OSError: the folder cannot be written; nothing is lost.
    """
    removed = _clear(folder)
    loose = sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith(TOGETHER))
    if len(loose) <= most:
        return removed
    for part in _parts(loose):
        _join(folder, part)
        for path in part:
            path.unlink()
    return removed + len(loose)


def _parts(paths: list[Path]) -> Iterator[list[Path]]:
    part: list[Path] = []
    size = 0
    for path in paths:
        part.append(path)
        size += path.stat().st_size
        if size >= _BYTES or len(part) == _PACKS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _join(folder: Path, paths: list[Path]) -> None:
    tables = [with_later_keys(unsealed(path.read_bytes(), str(path), all_columns)) for path in paths]
    packs = [path.stem for path in paths]
    name = hashlib.sha256(" ".join(packs).encode()).hexdigest()[:16]
    data = sealed(pa.concat_tables(tables, promote_options="permissive"), packs)
    write_atomically(folder / f"{TOGETHER}{name}{SUFFIX}", lambda file: file.write(data), replace=False)


def _clear(folder: Path) -> int:
    """Remove the shards whose packs a joined file holds already."""
    held = {pack for path in folder.glob(f"{TOGETHER}*{SUFFIX}") for pack in packs_of(path)}
    there = [folder / f"{pack}{SUFFIX}" for pack in held]
    removed = [path for path in there if path.exists()]
    for path in removed:
        path.unlink()
    return len(removed)
