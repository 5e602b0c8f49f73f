"""Checks a user's arrays before anything is trained on them. Each message names the array and its fault."""

from __future__ import annotations

from collections.abc import Mapping

from noisescale.datasets.dataset import Array, DatasetOptions, RawArrays
from noisescale.datasets.named_arrays import positions_of, read_named
from noisescale.datasets.plain_arrays import check_columns, column_names, real_array
from noisescale.datasets.tokens import as_integers, check_tokens, continues, may_be_tokens, vocabulary_for
from noisescale.datasets.user_targets import count_classes, read_targets, target_kind
from noisescale.errors import BadInput
from noisescale.input_shapes import TokenShape


def check_arrays(
    name: str,
    x_train: object,
    y_train: object,
    x_test: object,
    y_test: object,
    options: DatasetOptions | None = None,
) -> RawArrays:
    """Check a user's arrays and return them as numpy arrays.

    Args:
        name: Name of the function that returned the arrays, for messages.
        x_train: Training inputs, vectors [N, D], signals [N, C, L], images [N, C, H, W] or tokens [N, T]: an array, a
            tensor or a DataFrame. Or a dictionary of several of these, of any shape [N, …].
        y_train: Integer class labels [N], or of each token [N, T], or real-valued targets [N] or [N, K].
        x_test: Test inputs.
        y_test: Test labels or targets.
        options: The options that say how to read inputs and targets; their defaults if not given.

    Raises:
        BadInput: An array has a wrong type, dtype, shape or length, or masked, NaN or infinite entries, or has labels
            outside 0 to K - 1 or tokens outside the vocabulary, or two DataFrames have other columns or another order
            of them.
    """
    options = options or DatasetOptions(name)
    if isinstance(x_train, Mapping) or isinstance(x_test, Mapping):
        named_train, named_test, shapes = read_named(name, x_train, x_test, options)
        examples = tuple(len(next(iter(arrays.values()))) for arrays in (named_train, named_test))
        y_train, y_test, outputs = _targets(name, y_train, y_test, examples, positions_of(shapes), options)
        for key, shape in shapes.items():
            if isinstance(shape, TokenShape) and _continue(named_train[key], y_train, named_test[key], y_test):
                outputs = max(outputs, shape.vocabulary)
        return RawArrays(named_train, y_train, named_test, y_test, num_outputs=outputs, shapes=shapes)
    columns = column_names(x_train), column_names(x_test)
    x_train, x_test = _inputs(x_train, f"{name} x_train"), _inputs(x_test, f"{name} x_test")
    check_columns(name, "x", *columns)
    if x_test.shape[1:] != x_train.shape[1:]:
        required = f"examples must have the same shape as in x_train, {list(x_train.shape[1:])}"
        raise BadInput(f"{name} x_test", required, list(x_test.shape[1:]))
    is_tabular = any(names is not None for names in columns)
    vocabulary = None
    if _are_tokens(name, x_train, x_test, options, is_tabular=is_tabular):
        x_train, x_test = as_integers(x_train), as_integers(x_test)
        vocabulary = options.vocabulary or vocabulary_for(name, x_train, x_test)
        for part, tokens in (("x_train", x_train), ("x_test", x_test)):
            check_tokens(tokens, vocabulary, f"{name} {part}")
    # Labels of tokens belong to the tokens, or to the positions of a sequence of vectors.
    lengths = x_train.shape[1:] if vocabulary is not None or x_train.ndim == 3 else ()
    y_train, y_test, outputs = _targets(name, y_train, y_test, (len(x_train), len(x_test)), lengths, options)
    if vocabulary is not None and _continue(x_train, y_train, x_test, y_test):
        outputs = max(outputs, vocabulary)
    notes: tuple[str, ...] = ()
    if vocabulary is not None and options.standardize is None and options.vocabulary is None:
        kinds = f"inputs of whole numbers are tokens of {vocabulary} kinds"
        notes = (f"{kinds}; dataset.standardize = true takes them as numbers",)
    return RawArrays(x_train, y_train, x_test, y_test, num_outputs=outputs, vocabulary=vocabulary, notes=notes)


def _targets(
    name: str,
    y_train: object,
    y_test: object,
    examples: tuple[int, ...],
    lengths: tuple[int, ...],
    options: DatasetOptions,
) -> tuple[Array, Array, int]:
    """Return the targets of both parts, and the number of outputs that they need."""
    columns = column_names(y_train), column_names(y_test)
    train = read_targets(y_train, f"{name} y_train", examples[0], lengths, multi_label=options.multi_label)
    test = read_targets(y_test, f"{name} y_test", examples[1], lengths, multi_label=options.multi_label)
    if train.shape[1:] != (1,):
        # The only column of targets may have another name in each frame.
        check_columns(name, "y", *columns)
    if target_kind(test) != target_kind(train):
        raise BadInput(
            f"{name} y_test", f"must be of the same kind as y_train, {target_kind(train)}", target_kind(test)
        )
    return train, test, train.shape[1] if train.dtype.kind == "f" else count_classes(name, train, test)


def _continue(x_train: Array, y_train: Array, x_test: Array, y_test: Array) -> bool:
    """Return whether targets are the next tokens, so that outputs are scores of tokens."""
    return y_train.dtype.kind != "f" and continues(x_train, y_train) and continues(x_test, y_test)


def _inputs(value: object, name: str) -> Array:
    array = real_array(value, name)
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        kinds = "tokens [N, T], vectors [N, D], signals [N, C, L] or images [N, C, H, W]"
        required = f"inputs must be {kinds} with at least one example and no empty axis"
        raise BadInput(name, required, f"shape {list(array.shape)}")
    return array


def _are_tokens(name: str, x_train: Array, x_test: Array, options: DatasetOptions, *, is_tabular: bool) -> bool:
    """Return whether inputs are tokens, by their dtype and shape, by their type and by the options."""
    if options.vocabulary is None:
        are_numbers = is_tabular or options.standardize not in (None, False)
        return not are_numbers and may_be_tokens(x_train) and may_be_tokens(x_test)
    if options.standardize not in (None, False):
        required = "false or not given, where dataset.vocabulary states that inputs are tokens"
        raise BadInput("dataset.standardize", required, repr(options.standardize))
    for part, x in (("x_train", x_train), ("x_test", x_test)):
        if x.ndim != 2 or x.dtype.kind == "f":
            required = "whole numbers of shape [N, T], where dataset.vocabulary states that inputs are tokens"
            raise BadInput(f"{name} {part}", required, f"{x.dtype} of shape {list(x.shape)}")
    return True
