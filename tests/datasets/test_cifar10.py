from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisescale.datasets import DatasetOptions, cifar10, load_dataset
from noisescale.errors import BadInput

StandIn = Callable[[Callable[[int], Any]], Path]


def small_batch(index: int) -> dict[bytes, Any]:
    pixels = np.random.default_rng(index).integers(256, size=(3, 3072), dtype=np.uint8)
    return {b"data": pixels, b"labels": [index, index + 1, 9]}


@pytest.fixture
def small_cifar10(stand_in_batches: StandIn) -> Path:
    """Create a folder of six small batches in place of the published batches."""
    return stand_in_batches(small_batch)


def pack_and_remove(folder: Path) -> Path:
    archive = folder.parent / cifar10.ARCHIVE.name
    with tarfile.open(archive, "w:gz") as members:
        members.add(folder, arcname=folder.name)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return archive


@pytest.mark.parametrize("packed", [False, True])
def test_batches_are_joined_in_order_from_the_folder_or_the_archive(packed: bool, small_cifar10: Path) -> None:
    if packed:
        pack_and_remove(small_cifar10)
    raw = cifar10.load_cifar10(DatasetOptions("cifar10"))
    assert raw.x_train.shape == (15, 3, 32, 32)
    assert raw.y_train.tolist() == [0, 1, 9, 1, 2, 9, 2, 3, 9, 3, 4, 9, 4, 5, 9]
    assert raw.y_test.tolist() == [5, 6, 9]
    # The red plane comes first, row by row.
    np.testing.assert_array_equal(raw.x_test[0, 1, 2], small_batch(5)[b"data"][0, 1024 + 64 : 1024 + 96])


def test_a_pickle_that_runs_code_is_refused_with_file_and_function(small_cifar10: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {small_cifar10}/trace",)

    path = small_cifar10 / "data_batch_3"
    path.write_bytes(pickle.dumps({b"data": Malicious(), b"labels": []}))
    with pytest.raises(BadInput, match=rf"a reference to {os.name}\.system") as refused:
        load_dataset(DatasetOptions("cifar10"))
    assert refused.value.name == str(path)
    assert not (small_cifar10 / "trace").exists()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "b'data'"),
        ({b"labels": [1]}, "b'data'"),
        ({b"data": np.zeros((2, 3072))}, "b'data'"),
        ({b"data": np.zeros((2, 3071), dtype=np.uint8)}, "b'data'"),
        ({b"data": np.zeros((2, 3072), dtype=np.uint8), b"labels": [1]}, "b'labels', a list of 2"),
        ({b"data": np.zeros((2, 3072), dtype=np.uint8), b"labels": [1, 10]}, "b'labels', a list of 2"),
    ],
)
def test_a_pickle_that_is_not_a_batch_is_refused(batch: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        cifar10.parse_batch(pickle.dumps(batch, protocol=4), Path("data_batch_1"))


def test_a_changed_batch_is_refused_by_the_checksum(small_cifar10: Path) -> None:
    (small_cifar10 / "test_batch").write_bytes(pickle.dumps(small_batch(0), protocol=4))
    with pytest.raises(BadInput, match="test_batch: must be the published file, md5"):
        load_dataset(DatasetOptions("cifar10"))


def test_a_missing_batch_is_refused_by_its_path(small_cifar10: Path) -> None:
    (small_cifar10 / "data_batch_4").unlink()
    with pytest.raises(BadInput, match="data_batch_4: must be a readable file"):
        load_dataset(DatasetOptions("cifar10"))


def test_a_truncated_archive_is_refused_by_its_path(small_cifar10: Path) -> None:
    archive = pack_and_remove(small_cifar10)
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(BadInput, match="must be the published archive, complete") as refused:
        load_dataset(DatasetOptions("cifar10"))
    assert refused.value.name == str(archive)


def test_an_archive_of_other_files_is_refused(small_cifar10: Path) -> None:
    archive = pack_and_remove(small_cifar10)
    with tarfile.open(archive, "w:gz") as members:
        members.addfile(tarfile.TarInfo("other"), io.BytesIO())
    with pytest.raises(BadInput, match=r"must be the published archive.*data_batch_1"):
        load_dataset(DatasetOptions("cifar10"))


def test_the_published_files(published_data: Path) -> None:
    raw = cifar10.load_cifar10(DatasetOptions("cifar10"))
    assert raw.x_train.shape == (50_000, 3, 32, 32)
    assert raw.y_train[:5].tolist() == [6, 9, 9, 4, 1]
    assert np.bincount(raw.y_test).tolist() == [1_000] * 10
    # The commonly published means are 0.4914, 0.4822 and 0.4465 of the full scale.
    means = raw.x_train.mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=5e-5)
