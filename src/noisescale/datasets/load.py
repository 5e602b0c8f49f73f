"""Loads a data set: reads its source, draws subset, validation split and label noise, standardizes, and hashes."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from noisescale.datasets.cifar10 import load_cifar10
from noisescale.datasets.dataset import COLUMNS, Array, Dataset, DatasetOptions, RawArrays
from noisescale.datasets.digits import load_digits
from noisescale.datasets.language import load_language
from noisescale.datasets.memory_map import as_tensor, in_chunks
from noisescale.datasets.mnist import load_fashion_mnist, load_mnist
from noisescale.datasets.mnist1d import load_mnist1d
from noisescale.datasets.named_arrays import NamedArrays, rows
from noisescale.datasets.parts import choose_parts
from noisescale.datasets.random_choices import random_stream, redraw_labels
from noisescale.datasets.standardize import Scale, leave_channels, measure_channels, measure_columns, standardize
from noisescale.datasets.text import load_text
from noisescale.datasets.tokens import as_integers, largest_share
from noisescale.datasets.user_function import load_user_function
from noisescale.errors import BadInput
from noisescale.input_shapes import InputShape, TokenShape
from noisescale.named_inputs import Inputs, NamedInputs


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a data set.

    Args:
        load: A function that returns the arrays for the options.
        file: Folder and name of one published file, if the data are read from disk. None for generated data and for
            data that a library contains.
        keys: Names of the options that only some sources take and this one does, of `SPECIAL_KEYS`.
    """

    load: Callable[[DatasetOptions], RawArrays]
    file: tuple[str, str] | None = None
    keys: frozenset[str] = frozenset()


# Options that only some sources take.
SPECIAL_KEYS = ("multi_label", "vocabulary", "path", "context", "order")

KNOWN_DATASETS: dict[str, Source] = {
    "mnist1d": Source(load_mnist1d),
    "digits": Source(load_digits),
    "mnist": Source(load_mnist, ("mnist", "train-images-idx3-ubyte.gz")),
    "fashion_mnist": Source(load_fashion_mnist, ("fashion_mnist", "train-images-idx3-ubyte.gz")),
    "cifar10": Source(load_cifar10, ("cifar10", "cifar-10-batches-py/data_batch_1")),
    "language": Source(load_language, keys=frozenset({"vocabulary", "context", "order"})),
    "text": Source(load_text, keys=frozenset({"path", "context"})),
}
USER_FUNCTION = Source(load_user_function, keys=frozenset({"multi_label", "vocabulary"}))


def load_dataset(options: DatasetOptions) -> Dataset:
    """Load a data set and make all random choices about the data. Equal options give equal data.

    First, a subset of `train_size` training examples is drawn. Then `round(validation_fraction * train_size)` of these
    examples become the validation set. Of the N remaining labels, `round(label_noise * N)` are redrawn. Finally, inputs
    are standardized: shifted and scaled by the mean and the standard deviation of each channel over the N examples. All
    entries of a vector count as one channel, unless `options.standardize` is "columns". Tokens stay as they are.

    Args:
        options: The name and the sizes of the data set, the seed, and how to standardize.

    Raises:
        BadInput: The name is unknown, a size is larger than the data set, there is label noise on targets that are not
            one label for each example, inputs are constant, a file is missing or differs from the published one, a
            user's arrays cannot be used, or the data do not fit into memory.
    """
    try:
        return _load_dataset(options)
    except MemoryError as error:
        raise BadInput(f"dataset {options.name}", "data that fit into memory", error) from None


def _load_dataset(options: DatasetOptions) -> Dataset:
    source = _find_source(options.name)
    _check_keys(options, source)
    raw = source.load(options)
    has_classes = raw.y_train.dtype.kind != "f"
    if options.label_noise > 0 and not (has_classes and raw.y_train.ndim == 1):
        required = "must be 0 for real-valued targets and for labels of tokens"
        raise BadInput("dataset.label_noise", required, options.label_noise)
    if options.label_noise > 0 and raw.y_train.min() < 0:
        raise BadInput("dataset.label_noise", "must be 0 where some labels are hidden", options.label_noise)
    parts = choose_parts(raw, options)
    y_train = raw.y_train[parts.train]
    if options.label_noise > 0:
        stream = random_stream(options.data_seed, "label noise")
        y_train = redraw_labels(y_train, options.label_noise, raw.num_outputs, stream)
    x_train = rows(raw.x_train, parts.train)
    prepare = _preparation(x_train, raw, options)
    inputs = {
        "x_train": prepare(x_train, f"{options.name} x_train"),
        "x_validation": prepare(rows(raw.x_train, parts.validation), f"{options.name} x_train"),
        "x_test": prepare(rows(raw.x_test, parts.test), f"{options.name} x_test"),
    }
    targets = {
        "y_train": _typed(y_train),
        "y_validation": _typed(raw.y_train[parts.validation]),
        "y_test": _typed(raw.y_test[parts.test]),
    }
    return Dataset(
        name=options.name,
        x_train=_tensors(inputs["x_train"]),
        y_train=as_tensor(targets["y_train"]),
        x_validation=_tensors(inputs["x_validation"]),
        y_validation=as_tensor(targets["y_validation"]),
        x_test=_tensors(inputs["x_test"]),
        y_test=as_tensor(targets["y_test"]),
        input_shape=_input_shape(raw),
        num_classes=raw.num_outputs,
        chance_accuracy=largest_share(targets["y_train"], raw.num_outputs) if has_classes else float("nan"),
        hash=_hash(inputs, targets, raw),
        entropy=raw.entropy,
        notes=raw.notes,
    )


def _input_shape(raw: RawArrays) -> InputShape:
    if isinstance(raw.x_train, dict):
        assert raw.shapes is not None
        return raw.shapes
    shape = raw.x_train.shape[1:]
    return shape if raw.vocabulary is None else TokenShape(shape, raw.vocabulary)


def _tensors(arrays: Array | NamedArrays) -> Inputs:
    if isinstance(arrays, dict):
        return NamedInputs({name: as_tensor(array) for name, array in arrays.items()})
    return as_tensor(arrays)


def _preparation(
    x_train: Array | NamedArrays, raw: RawArrays, options: DatasetOptions
) -> Callable[[Array | NamedArrays, str], Array | NamedArrays]:
    """Return the function of inputs and their name that standardizes numbers and converts tokens."""
    if not isinstance(x_train, dict):
        prepare = _preparation_of_array(x_train, raw.vocabulary, options, options.name)
        return lambda x, name: prepare(cast(Array, x), name)
    by_name = {key: _preparation_of_entry(array, key, options) for key, array in x_train.items()}
    return lambda x, name: {key: by_name[key](array, f"{name} {key!r}") for key, array in cast(NamedArrays, x).items()}


def _preparation_of_entry(x_train: Array, key: str, options: DatasetOptions) -> Callable[[Array, str], Array]:
    if x_train.dtype.kind != "f":
        return lambda x, _name: x
    # Only vectors have columns. Other entries have channels, as without the option.
    of_columns = options.standardize == COLUMNS and x_train.ndim == 2
    standardized = options if of_columns or options.standardize != COLUMNS else replace(options, standardize=True)
    return _preparation_of_array(x_train, None, standardized, f"{options.name} {key!r}")


def _preparation_of_array(
    x_train: Array, vocabulary: int | None, options: DatasetOptions, name: str
) -> Callable[[Array, str], Array]:
    if vocabulary is None:
        scale = _SCALES[options.standardize](x_train, name)
        return lambda x, name: standardize(x, scale, name)
    if options.standardize not in (None, False):
        raise BadInput("dataset.standardize", "false or not given, for tokens", repr(options.standardize))
    return lambda x, _name: _typed(x)


def _typed(array: Array) -> Array:
    """Return tokens and labels in int64, and other targets in float32. Tokens in a memory map stay there."""
    return array.astype(np.float32) if array.dtype.kind == "f" else as_integers(array)


# How inputs are standardized, by the value of `DatasetOptions.standardize`.
_SCALES: dict[bool | str | None, Callable[[Array, str], Scale]] = {
    None: measure_channels,
    True: measure_channels,
    COLUMNS: measure_columns,
    False: lambda x_train, _name: leave_channels(x_train),
}


def _find_source(name: str) -> Source:
    if name in KNOWN_DATASETS:
        return KNOWN_DATASETS[name]
    if ":" in name:
        return USER_FUNCTION
    nearest = difflib.get_close_matches(name, KNOWN_DATASETS, n=1)
    suggestion = f"; did you mean {nearest[0]}?" if nearest else ""
    required = f'must be one of {", ".join(KNOWN_DATASETS)}, or your function as "package.module:function"'
    raise BadInput("dataset.name", required, f"{name!r}{suggestion}")


def _check_keys(options: DatasetOptions, source: Source) -> None:
    """Check that no option is given that the source would ignore."""
    for key in SPECIAL_KEYS:
        value = getattr(options, key)
        if value not in (None, False) and key not in source.keys:
            takers = [name for name, row in KNOWN_DATASETS.items() if key in row.keys]
            takers += ["your function"] if key in USER_FUNCTION.keys else []
            raise BadInput(f"dataset.{key}", f"not given: only for {' and '.join(takers)}", repr(value))


def _hash(inputs: Mapping[str, Array | NamedArrays], targets: Mapping[str, Array], raw: RawArrays) -> str:
    digest = hashlib.sha256((raw.digest or "").encode())
    for part in ("train", "validation", "test"):
        x = inputs[f"x_{part}"]
        if isinstance(x, dict):
            entries = {f"x_{part} {name}": array for name, array in sorted(x.items())}
        elif raw.digest_shape is not None:
            entries = {f"x_{part}": x.reshape(len(x), *raw.digest_shape)}
        else:
            entries = {f"x_{part}": x}
        for name, array in {**entries, f"y_{part}": targets[f"y_{part}"]}.items():
            # Whole numbers have the same digest whether they are mapped, in any dtype, or in memory.
            dtype = np.dtype(np.int64) if array.dtype.kind in "iu" else array.dtype
            digest.update(f"{name} {dtype.str} {array.shape}\n".encode())
            for chunk in in_chunks(array) if raw.digest is None else ():
                digest.update(np.ascontiguousarray(chunk, dtype=dtype).data)
    return digest.hexdigest()
