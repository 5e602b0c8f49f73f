"""MNIST and Fashion-MNIST: 60,000 training and 10,000 test images of 28 by 28 gray pixels in 10 classes.

Sources: LeCun, Cortes, Burges, "The MNIST database", 1998; Xiao, Rasul, Vollgraf, arXiv:1708.07747, 2017.
"""

from __future__ import annotations

from noisescale.datasets.dataset import Array, DatasetOptions, RawArrays
from noisescale.datasets.files import PublishedFile, check_md5, find_or_download, read_bytes
from noisescale.datasets.idx import parse_idx
from noisescale.errors import BadInput

FILE_SHAPES = {
    "train-images-idx3-ubyte.gz": (60_000, 28, 28),
    "train-labels-idx1-ubyte.gz": (60_000,),
    "t10k-images-idx3-ubyte.gz": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte.gz": (10_000,),
}

MNIST_ADDRESSES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}

FASHION_MNIST_ADDRESSES = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
FASHION_MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


def load_mnist(options: DatasetOptions) -> RawArrays:
    """Return MNIST as images [N, 1, 28, 28] with values 0 to 255.

    Raises:
        BadInput: A file is missing and cannot be downloaded, or differs from the published file.
    """
    return _load("mnist", MNIST_MD5, MNIST_ADDRESSES)


def load_fashion_mnist(options: DatasetOptions) -> RawArrays:
    """Return Fashion-MNIST as images [N, 1, 28, 28] with values 0 to 255.

    Raises:
        BadInput: A file is missing and cannot be downloaded, or differs from the published file.
    """
    return _load("fashion_mnist", FASHION_MNIST_MD5, FASHION_MNIST_ADDRESSES)


def _load(folder: str, md5: dict[str, str], addresses: tuple[str, ...]) -> RawArrays:
    def read(name: str) -> Array:
        file = PublishedFile(folder, name, md5[name], tuple(address + name for address in addresses))
        path = find_or_download(file)
        content = read_bytes(path)
        # The file is parsed before its checksum is compared, because an error in its content is more informative.
        array = parse_idx(content, FILE_SHAPES[name], path)
        if array.ndim == 1 and array.max() > 9:
            raise BadInput(str(path), "labels must be 0 to 9", int(array.max()))
        check_md5(content, file.md5, path)
        return array

    x_train, y_train, x_test, y_test = (read(name) for name in FILE_SHAPES)
    return RawArrays(x_train[:, None], y_train, x_test[:, None], y_test, num_outputs=10)
