"""Joining of shards into larger files, because a folder with thousands of files is slow to list, check and read.

A shard is the file with the results of one pack, a set of runs that train together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from noisescale.store.seal import seal_table, unseal_table
from noisescale.store.shards import JOINED_PREFIX, SUFFIX, all_columns, packs_of, with_later_keys, write_atomically

# Largest number of shards that stay unjoined. Reading one run from a shard costs as much as reading a hundred runs from
# a joined file (benchmarks/results/scale.md).
MAX_SINGLE_SHARDS = 2000

# Largest size of a joined file, in bytes and in packs. If a file is damaged, only the packs in it must train again.
_MAX_BYTES, _MAX_PACKS = 2**25, 1000


def compact(folder: Path, max_single: int = MAX_SINGLE_SHARDS) -> int:
    """Join the shards of single packs if there are too many. The caller holds the lock of the sweep's folder.

    A joined file is complete before the first of its shards is removed, and readers count every run once. A kill at any
    moment therefore loses no run and counts no run twice. The next call removes the shards that a killed call left.

    Args:
        folder: The subfolder of shards.
        max_single: Largest number of shards that stay unjoined.

    Returns:
        The number of shards that were removed.

    Raises:
        DamagedFile: A shard differs from what was written.
        OSError: The folder cannot be written. Nothing is lost.
    """
    removed = _remove_joined(folder)
    single = sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith(JOINED_PREFIX))
    if len(single) <= max_single:
        return removed
    for group in _groups(single):
        _join(folder, group)
        for path in group:
            path.unlink()
    return removed + len(single)


def _groups(paths: list[Path]) -> Iterator[list[Path]]:
    group: list[Path] = []
    size = 0
    for path in paths:
        group.append(path)
        size += path.stat().st_size
        if size >= _MAX_BYTES or len(group) == _MAX_PACKS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _join(folder: Path, paths: list[Path]) -> None:
    tables = [with_later_keys(unseal_table(path.read_bytes(), str(path), all_columns)) for path in paths]
    packs = [path.stem for path in paths]
    name = hashlib.sha256(" ".join(packs).encode()).hexdigest()[:16]
    data = seal_table(pa.concat_tables(tables, promote_options="permissive"), packs)
    write_atomically(folder / f"{JOINED_PREFIX}{name}{SUFFIX}", lambda file: file.write(data), replace=False)


def _remove_joined(folder: Path) -> int:
    """Remove the shards of packs that a joined file holds, and return the number of removed shards."""
    joined = {pack for path in folder.glob(f"{JOINED_PREFIX}*{SUFFIX}") for pack in packs_of(path)}
    paths = [folder / f"{pack}{SUFFIX}" for pack in joined]
    removed = [path for path in paths if path.exists()]
    for path in removed:
        path.unlink()
    return len(removed)
