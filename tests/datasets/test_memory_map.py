"""Arrays in files: named by what they hold, shared, and kept in memory where no file can be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisescale.datasets.memory_map import RowWriter, in_chunks, is_mapped, store_rows
from noisescale.datasets.standardize import measure_channels, standardize

ARRAY = np.random.default_rng(0).standard_normal((7, 2, 3))


def stored(array: np.ndarray, parts: int = 3) -> np.ndarray:
    return store_rows(np.array_split(array, parts), array.shape, array.dtype)


def test_equal_arrays_share_a_file(empty_cache: Path) -> None:
    first, second = stored(ARRAY), stored(ARRAY, parts=7)
    np.testing.assert_array_equal(first, ARRAY)
    assert is_mapped(first) and is_mapped(first[2:].reshape(-1)) and not is_mapped(ARRAY[2:])
    assert not first.flags.writeable
    files = list((empty_cache / "arrays").iterdir())
    assert len(files) == 1
    inode = files[0].stat().st_ino
    stored(ARRAY)
    assert files[0].stat().st_ino == inode
    np.testing.assert_array_equal(second, ARRAY)
    stored(ARRAY + 1)
    stored(ARRAY.astype(np.float32))
    assert len(list((empty_cache / "arrays").iterdir())) == 3


@pytest.mark.parametrize("damage", ["another entry", "truncated", "no array"])
def test_a_damaged_file_is_replaced(empty_cache: Path, damage: str) -> None:
    stored(ARRAY)
    (path,) = (empty_cache / "arrays").iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"another entry": content, "truncated": content[:-20], "no array": b"text"}[damage])
    np.testing.assert_array_equal(stored(ARRAY), ARRAY)
    assert [entry.name for entry in (empty_cache / "arrays").iterdir()] == [path.name]


def test_without_a_folder_arrays_stay_in_memory(empty_cache: Path) -> None:
    empty_cache.write_text("a file in the place of the folder")
    array = stored(ARRAY)
    np.testing.assert_array_equal(array, ARRAY)
    assert not is_mapped(array)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve room on the disk")
def test_a_full_disk_is_noticed_before_anything_is_written(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not is_mapped(stored(ARRAY))
    assert list((empty_cache / "arrays").iterdir()) == []


def test_a_failed_attempt_leaves_no_file(empty_cache: Path) -> None:
    with pytest.raises(RuntimeError), RowWriter(ARRAY.shape, ARRAY.dtype) as writer:
        writer.append(ARRAY[:2])
        raise RuntimeError
    assert list((empty_cache / "arrays").iterdir()) == []


def test_chunks_are_the_rows_in_order() -> None:
    array = np.arange(3 * 2**20).reshape(6, -1)
    parts = list(in_chunks(array))
    assert [len(part) for part in parts] == [2, 2, 2]
    np.testing.assert_array_equal(np.concatenate(parts), array)


def test_mapped_inputs_are_standardized_into_another_file(empty_cache: Path) -> None:
    x = 5 + 3 * np.random.default_rng(1).standard_normal((3000, 2, 400))
    mapped = stored(x)
    expected, scale = measure_channels(x, "own"), measure_channels(mapped, "own")
    # float64 sums over a million entries, in another order.
    np.testing.assert_allclose(scale.mean, expected.mean, rtol=1e-10)
    np.testing.assert_allclose(scale.std, expected.std, rtol=1e-10)
    standardized = standardize(mapped, expected, "own x_train")
    assert is_mapped(standardized) and standardized.dtype == np.float32
    np.testing.assert_array_equal(standardized, standardize(x, expected, "own x_train"))
    assert standardize(mapped[:0], expected, "own x_train").shape == (0, 2, 400)
