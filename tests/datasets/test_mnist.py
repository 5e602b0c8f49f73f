from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from noisescale.datasets import DatasetOptions, load_dataset, mnist
from noisescale.errors import BadInput

SMALL_SHAPES = {"images.gz": (4, 2, 2), "labels.gz": (4,), "test-images.gz": (2, 2, 2), "test-labels.gz": (2,)}
LABELS = {"labels.gz": bytes([3, 1, 4, 1]), "test-labels.gz": bytes([5, 9])}


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a folder of four small files in place of the published files."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, shape in SMALL_SHAPES.items():
        pixels = bytes(range(int(np.prod(shape))))
        header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
        (folder / name).write_bytes(gzip.compress(header + LABELS.get(name, pixels), mtime=0))
    checksums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in SMALL_SHAPES}
    monkeypatch.setattr(mnist, "FILE_SHAPES", SMALL_SHAPES)
    monkeypatch.setattr(mnist, "MNIST_MD5", checksums)
    monkeypatch.setenv("NOISESCALE_DATA", str(tmp_path))
    return folder


def test_each_file_becomes_its_array(small_mnist: Path) -> None:
    raw = mnist.load_mnist(DatasetOptions("mnist"))
    np.testing.assert_array_equal(raw.x_train, np.arange(16).reshape(4, 1, 2, 2))
    np.testing.assert_array_equal(raw.x_test, np.arange(8).reshape(2, 1, 2, 2))
    assert raw.y_train.tolist() == [3, 1, 4, 1]
    assert raw.y_test.tolist() == [5, 9]
    assert raw.num_outputs == 10


@pytest.mark.parametrize("name", SMALL_SHAPES)
def test_a_truncated_file_is_refused_by_its_path(name: str, small_mnist: Path) -> None:
    whole = (small_mnist / name).read_bytes()
    (small_mnist / name).write_bytes(whole[:-9])
    with pytest.raises(BadInput, match="must be a complete gzip file") as refused:
        load_dataset(DatasetOptions("mnist"))
    assert refused.value.name == str(small_mnist / name)


def test_a_changed_pixel_is_refused_by_the_checksum(small_mnist: Path) -> None:
    path = small_mnist / "images.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1] + b"\0", mtime=0))
    with pytest.raises(BadInput, match=r"images\.gz: must be the published file, md5"):
        load_dataset(DatasetOptions("mnist"))


def test_a_label_above_9_is_refused(small_mnist: Path) -> None:
    path = small_mnist / "labels.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1] + bytes([10])))
    with pytest.raises(BadInput, match=r"labels must be 0 to 9\. Got: 10"):
        load_dataset(DatasetOptions("mnist"))


@pytest.mark.parametrize(("name", "first_labels"), [("mnist", [5, 0, 4, 1, 9]), ("fashion_mnist", [9, 0, 0, 3, 0])])
def test_the_published_files(name: str, first_labels: list[int], published_data: Path) -> None:
    load = {"mnist": mnist.load_mnist, "fashion_mnist": mnist.load_fashion_mnist}[name]
    raw = load(DatasetOptions(name))
    assert raw.x_train.shape == (60_000, 1, 28, 28)
    assert raw.x_test.shape == (10_000, 1, 28, 28)
    assert raw.y_train[:5].tolist() == first_labels
    # The commonly published means are 0.1307 and 0.2860 of the full scale.
    assert raw.x_train.mean() / 255 == pytest.approx({"mnist": 0.1307, "fashion_mnist": 0.2860}[name], abs=5e-5)
