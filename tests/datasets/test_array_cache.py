from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from noisescale.datasets.array_cache import load_arrays, save_arrays

ARRAYS = {"x": np.arange(6.0).reshape(2, 3)}
SHAPES = {"x": (2, 3)}


def test_saved_arrays_are_loaded_and_no_other_file_remains(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "arrays.npz"
    save_arrays(path, ARRAYS)
    loaded = load_arrays(path, SHAPES)
    assert loaded is not None
    np.testing.assert_array_equal(loaded["x"], ARRAYS["x"])
    assert list(path.parent.iterdir()) == [path]


def test_an_absent_file_gives_none(tmp_path: Path) -> None:
    assert load_arrays(tmp_path / "arrays.npz", SHAPES) is None


@pytest.mark.parametrize("shapes", [{"x": (3, 2)}, {"y": (2, 3)}])
def test_a_file_with_other_arrays_gives_none(shapes: dict[str, tuple[int, ...]], tmp_path: Path) -> None:
    save_arrays(tmp_path / "arrays.npz", ARRAYS)
    assert load_arrays(tmp_path / "arrays.npz", shapes) is None


def test_a_damaged_file_gives_none(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    save_arrays(path, ARRAYS)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"text", whole.replace(ARRAYS["x"].tobytes(), bytes(48))):
        path.write_bytes(damaged)
        assert load_arrays(path, SHAPES) is None


def test_nothing_is_saved_if_the_folder_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    save_arrays(tmp_path / "file" / "arrays.npz", ARRAYS)
    assert (tmp_path / "file").read_bytes() == b""


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", disk_full)
    save_arrays(tmp_path / "arrays.npz", ARRAYS)
    assert list(tmp_path.iterdir()) == []
