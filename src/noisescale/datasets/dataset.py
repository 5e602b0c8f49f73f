"""The options of a data set, the arrays of its source, and the final data set used for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch

from noisescale.errors import BadInput
from noisescale.input_shapes import InputShape, NamedShapes
from noisescale.named_inputs import Inputs

Array = npt.NDArray[Any]

# The value of `standardize` that gives every entry of a vector a mean and a standard deviation of its own.
COLUMNS = "columns"


@dataclass(frozen=True)
class DatasetOptions:
    """The choice of a data set, and the seed of all random choices about the data.

    Args:
        name: Name of a known data set, or of a function `"package.module:function"` that returns
            `(x_train, y_train, x_test, y_test)`.
        train_size: Number of examples drawn from the training set, before the validation set is split off. None for all
            examples.
        test_size: Number of test examples. None for all examples.
        validation_fraction: Share of the `train_size` examples, in [0, 1), that becomes the validation set. SGD is
            trained on the other `train_size - round(validation_fraction * train_size)` examples.
        label_noise: Share of the remaining training labels, in [0, 1), that is redrawn uniformly over the classes.
        data_seed: Seed of the subset, the split and the label noise. Each of them has an independent random stream.
        standardize: True shifts and scales each channel of the inputs, "columns" each entry of vectors. False leaves
            inputs as the source gives them, in float32. None is True for numbers and leaves tokens as they are.
        multi_label: Whether targets of 0 and 1 state for each of K labels if it applies, so that they become rows of
            real numbers [N, K].
        vocabulary: V, the number of kinds of tokens. None for the largest token + 1, or for the source's default.
        path: A file of text, for the data set `"text"`.
        context: T, the number of tokens of an example, for `"text"` and `"language"`. None for their default.
        order: Number of tokens on which the next token of `"language"` depends. None for its default.

    Raises:
        BadInput: A size is not a positive whole number, a fraction lies outside [0, 1), the seed is negative, or the
            standardization is unknown.
    """

    name: str
    train_size: int | None = None
    test_size: int | None = None
    validation_fraction: float = 0.0
    label_noise: float = 0.0
    data_seed: int = 0
    standardize: bool | str | None = None
    multi_label: bool = False
    vocabulary: int | None = None
    path: str | None = None
    context: int | None = None
    order: int | None = None

    def __post_init__(self) -> None:
        for key in ("train_size", "test_size", "vocabulary", "context", "order"):
            size = getattr(self, key)
            if size is not None and not (_is_whole(size) and size > 0):
                raise BadInput(f"dataset.{key}", "must be a positive whole number", repr(size))
        for key in ("validation_fraction", "label_noise"):
            fraction = getattr(self, key)
            if not (isinstance(fraction, int | float) and 0 <= fraction < 1):
                raise BadInput(f"dataset.{key}", "must lie in [0, 1)", repr(fraction))
        if not (_is_whole(self.data_seed) and self.data_seed >= 0):
            raise BadInput("dataset.data_seed", "must be a whole number, 0 or larger", repr(self.data_seed))
        if not (self.standardize is None or isinstance(self.standardize, bool) or self.standardize == COLUMNS):
            raise BadInput("dataset.standardize", f"true, false or {COLUMNS!r}", repr(self.standardize))
        if not isinstance(self.multi_label, bool):
            raise BadInput("dataset.multi_label", "must be true or false", repr(self.multi_label))
        if not (self.path is None or (isinstance(self.path, str) and self.path)):
            raise BadInput("dataset.path", "must be the path of a file", repr(self.path))


@dataclass(frozen=True, eq=False)
class RawArrays:
    """The arrays of a source, before subset, split, label noise and standardization.

    Args:
        x_train: Training inputs of any real dtype: vectors [N, D], signals [N, C, L] or images [N, C, H, W]; or tokens
            [N, T] of an integer dtype, if `vocabulary` is given; or several arrays by name, if `shapes` is given.
        y_train: Class labels [N] of an integer dtype, labels of each token [N, T] of an integer dtype, or real-valued
            targets [N, K] of a floating dtype.
        x_test: Test inputs. Their shape differs from the training inputs only in N.
        y_test: Test labels or targets, of the same kind as `y_train`.
        num_outputs: K, the number of classes or of real-valued targets.
        digest_shape: Shape of one example in the hash of the data, by which studies identify their data. None if it is
            the shape of the inputs.
        vocabulary: V, the number of kinds of tokens. None if inputs are real numbers.
        consecutive: Whether examples follow one another, as windows of a text do. Then `train_size` and `test_size`
            take the first examples, and the validation set is the end of the training examples. No array is copied.
        digest: A digest of the source. If given, the hash of the data is that of this digest and of the shapes, so that
            large arrays need not be read.
        entropy: The smallest mean loss that any model reaches on these data, in nats per token. None if it is unknown.
        notes: Notes for the user about how the data were read.
        shapes: The shapes of one example of inputs by name. None if inputs are one array.
    """

    x_train: Array | dict[str, Array]
    y_train: Array
    x_test: Array | dict[str, Array]
    y_test: Array
    num_outputs: int
    digest_shape: tuple[int, ...] | None = None
    vocabulary: int | None = None
    consecutive: bool = False
    digest: str | None = None
    entropy: float | None = None
    notes: tuple[str, ...] = ()
    shapes: NamedShapes | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """The final data, the same for every run of a study.

    Args:
        name: Name in the options.
        x_train: Training inputs: standardized numbers in float32, shape [N, D], [N, C, L] or [N, C, H, W]; or tokens
            [N, T] of dtype int64, or of any integer dtype in a read-only memory map; or several tensors by name.
        y_train: Class labels [N] of dtype int64, labels of each token [N, T] of the same dtypes as tokens, or
            real-valued targets [N, K] of dtype float32. Tokens without a label have a negative number.
        x_validation: Validation inputs, split from the training set. Their length is 0 if there is no validation set.
        y_validation: Validation labels (without label noise) or targets.
        x_test: Test inputs.
        y_test: Test labels or targets.
        input_shape: Shape of one example, (D,), (C, L) or (C, H, W). For tokens it is a `TokenShape`, (T,), and
            for inputs by name a `NamedShapes`.
        num_classes: K, the number of outputs that a model needs, for each token if targets are labels of tokens.
        chance_accuracy: Share of the largest class in `y_train`. NaN for real-valued targets.
        hash: SHA-256, in hex, of the six arrays with their shapes and dtypes.
        entropy: The smallest mean loss that any model reaches, in nats per token. None if it is unknown.
        notes: Notes for the user about how the data were read.
    """

    name: str
    x_train: Inputs
    y_train: torch.Tensor
    x_validation: Inputs
    y_validation: torch.Tensor
    x_test: Inputs
    y_test: torch.Tensor
    input_shape: InputShape
    num_classes: int
    chance_accuracy: float
    hash: str
    entropy: float | None = None
    notes: tuple[str, ...] = ()


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
