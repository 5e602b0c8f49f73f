"""Loads a data set: reads its source, draws subset, validation split and label noise, standardizes, and hashes."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from noisescale.datasets.cifar10 import load_cifar10
from noisescale.datasets.dataset import COLUMNS, Array, Dataset, DatasetOptions, RawArrays
from noisescale.datasets.digits import load_digits
from noisescale.datasets.mnist import load_fashion_mnist, load_mnist
from noisescale.datasets.mnist1d import load_mnist1d
from noisescale.datasets.random_choices import choose_subset, random_stream, redraw_labels, split_validation
from noisescale.datasets.standardize import Scale, leave_channels, measure_channels, measure_columns, standardize
from noisescale.datasets.user_function import load_user_function
from noisescale.errors import BadInput


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a data set.

    Args:
        load: A function that returns the arrays for the options.
        file: Folder and name of one published file, if the data are read from disk. None for generated data and for
            data that a library contains.
    """

    load: Callable[[DatasetOptions], RawArrays]
    file: tuple[str, str] | None = None


KNOWN_DATASETS: dict[str, Source] = {
    "mnist1d": Source(load_mnist1d),
    "digits": Source(load_digits),
    "mnist": Source(load_mnist, ("mnist", "train-images-idx3-ubyte.gz")),
    "fashion_mnist": Source(load_fashion_mnist, ("fashion_mnist", "train-images-idx3-ubyte.gz")),
    "cifar10": Source(load_cifar10, ("cifar10", "cifar-10-batches-py/data_batch_1")),
}


def load_dataset(options: DatasetOptions) -> Dataset:
    """Load a data set and make all random choices about the data. Equal options give equal data.

    First, a subset of `train_size` training examples is drawn. Then `round(validation_fraction * train_size)` of these
    examples become the validation set. Of the N remaining labels, `round(label_noise * N)` are redrawn. Finally, inputs
    are standardized: shifted and scaled by the mean and the standard deviation of each channel over the N examples. All
    entries of a vector count as one channel, unless `options.standardize` is "columns".

    Args:
        options: The name and the sizes of the data set, the seed, and how to standardize.

    Raises:
        BadInput: The name is unknown, a size is larger than the data set, there is label noise on real-valued targets,
            inputs are constant, a file is missing or differs from the published one, a user's arrays cannot be used, or
            the data do not fit into memory.
    """
    try:
        return _load_dataset(options)
    except MemoryError as error:
        raise BadInput(f"dataset {options.name}", "data that fit into memory", error) from None


def _load_dataset(options: DatasetOptions) -> Dataset:
    raw = _find_source(options.name)(options)
    is_classification = raw.y_train.ndim == 1
    if options.label_noise > 0 and not is_classification:
        raise BadInput("dataset.label_noise", "must be 0 for real-valued targets", options.label_noise)

    def stream(purpose: str) -> np.random.Generator:
        return random_stream(options.data_seed, purpose)

    subset = choose_subset(len(raw.x_train), options.train_size, "dataset.train_size", stream("train subset"))
    test = choose_subset(len(raw.x_test), options.test_size, "dataset.test_size", stream("test subset"))
    remaining, held_out = split_validation(len(subset), options.validation_fraction, stream("validation split"))
    train, validation = subset[remaining], subset[held_out]

    y_train = raw.y_train[train]
    if is_classification:
        y_train = redraw_labels(y_train, options.label_noise, raw.num_outputs, stream("label noise"))
    x_train = raw.x_train[train]
    scale = _SCALES[options.standardize](x_train, options.name)
    y_dtype = np.int64 if is_classification else np.float32
    arrays: dict[str, Array] = {
        "x_train": standardize(x_train, scale, f"{options.name} x_train"),
        "y_train": y_train.astype(y_dtype),
        "x_validation": standardize(raw.x_train[validation], scale, f"{options.name} x_train"),
        "y_validation": raw.y_train[validation].astype(y_dtype),
        "x_test": standardize(raw.x_test[test], scale, f"{options.name} x_test"),
        "y_test": raw.y_test[test].astype(y_dtype),
    }
    return Dataset(
        name=options.name,
        x_train=torch.from_numpy(arrays["x_train"]),
        y_train=torch.from_numpy(arrays["y_train"]),
        x_validation=torch.from_numpy(arrays["x_validation"]),
        y_validation=torch.from_numpy(arrays["y_validation"]),
        x_test=torch.from_numpy(arrays["x_test"]),
        y_test=torch.from_numpy(arrays["y_test"]),
        input_shape=raw.x_train.shape[1:],
        num_classes=raw.num_outputs,
        chance_accuracy=float(np.bincount(y_train).max() / len(y_train)) if is_classification else float("nan"),
        hash=_hash(arrays, raw.digest_shape),
    )


# How inputs are standardized, by the value of `DatasetOptions.standardize`.
_SCALES: dict[bool | str, Callable[[Array, str], Scale]] = {
    True: measure_channels,
    COLUMNS: measure_columns,
    False: lambda x_train, _name: leave_channels(x_train),
}


def _find_source(name: str) -> Callable[[DatasetOptions], RawArrays]:
    if name in KNOWN_DATASETS:
        return KNOWN_DATASETS[name].load
    if ":" in name:
        return load_user_function
    nearest = difflib.get_close_matches(name, KNOWN_DATASETS, n=1)
    suggestion = f"; did you mean {nearest[0]}?" if nearest else ""
    required = f'must be one of {", ".join(KNOWN_DATASETS)}, or your function as "package.module:function"'
    raise BadInput("dataset.name", required, f"{name!r}{suggestion}")


def _hash(arrays: Mapping[str, Array], example_shape: tuple[int, ...] | None) -> str:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        if example_shape is not None and name.startswith("x_"):
            array = array.reshape(len(array), *example_shape)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
