"""The columns of a shard, with checks of their types and values, because a shard may come from somebody else.

The digest of a file shows that nobody changed it by accident. It does not show who wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from noisescale.errors import control_characters
from noisescale.runs import SEMANTICS, Run

Kind = Callable[[pa.DataType], bool]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_number_or_missing(kind: pa.DataType) -> bool:
    return _is_number(kind) or bool(pa.types.is_null(kind))


def _is_curves(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and all(
        pa.types.is_null(field.type) or (pa.types.is_list(field.type) and _is_number_or_missing(field.type.value_type))
        for field in kind
    )


_LAYER: dict[str, Kind] = {
    "layer": pa.types.is_string,
    "fan_in": _is_number_or_missing,
    "init_variance": _is_number_or_missing,
    "multiplier": _is_number_or_missing,
    "normalized_noise_scale": _is_number_or_missing,
    "is_reference": pa.types.is_boolean,
}


def _is_layers(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)):
        return False
    types = {field.name: field.type for field in kind.value_type}
    return all(name in types and has_its_type(types[name]) for name, has_its_type in _LAYER.items())


# Tests of types, by the annotation of a key of `Run`.
_KINDS: dict[str, Kind] = {
    "str": pa.types.is_string,
    "Purpose": pa.types.is_string,
    "bool": pa.types.is_boolean,
    "int": pa.types.is_integer,
    "float": _is_number,
}
_ANNOTATIONS = {key.name: str(key.type).removesuffix(" | None") for key in fields(Run)}
_OPTIONAL = {key.name for key in fields(Run) if str(key.type).endswith(" | None")}

# The columns that every shard has: the keys of a run in the first version, the ids, the status and the nested results.
_REQUIRED: dict[str, Kind] = {
    "run_id": pa.types.is_string,
    "pack_id": pa.types.is_string,
    "status": pa.types.is_string,
    "curves": _is_curves,
    "layers": _is_layers,
    **{key.name: _KINDS[_ANNOTATIONS[key.name]] for key in fields(Run) if key.default is MISSING},
}
# Columns of newer versions, and of results that tables and reports read.
_LATER: dict[str, Kind] = {
    **{key.name: _KINDS[_ANNOTATIONS[key.name]] for key in fields(Run) if key.default is not MISSING},
    "collapsed": pa.types.is_boolean,
    "seconds": _is_number,
    "threads": pa.types.is_integer,
    "device": pa.types.is_string,
    "versions": pa.types.is_string,
    "kernel": pa.types.is_string,
    "code": pa.types.is_string,
}
# Prefixes of the columns of metrics and measures.
_METRICS = ("train_", "test_", "validation_", "chance_", "drift_", "final_", "best_", "averaged_", "diverged_at_step")

# Columns in which no value is missing, beyond the keys of a run.
_COMPLETE = ("run_id", "pack_id", "status", "collapsed", "seconds", "device", "threads", "versions")
_NAMES = {"status": ("completed", "diverged"), "purpose": tuple(SEMANTICS)}
# Numbers of a run that are above 0, that may be below 0, and that lie between 0 and 1. All others are at least 0.
_POSITIVE = ("train_size", "width", "batch_size", "learning_rate", "init_scale", "steps", "evaluations")
_SIGNED = ("ignore_index",)
_FRACTIONS = ("validation_fraction", "label_noise", "momentum", "late_fraction", "beta1", "beta2")
# The largest number that a spec accepts, and that a column of doubles holds exactly.
_LARGEST = 2**53


def check_schema(schema: pa.Schema) -> None:
    """Check that a schema has the columns of a shard.

    Args:
        schema: The schema of the file.

    Raises:
        ValueError: A column is missing, appears twice or has another type.
    """
    names = schema.names
    if len(set(names)) < len(names):
        raise ValueError("two columns with the same name")
    if missing := [name for name in _REQUIRED if name not in names]:
        raise ValueError(f"a Parquet file without the column {missing[0]}")
    for field in schema:
        if not _has_its_type(field):
            raise ValueError(f"a column {field.name} of the type {field.type}")
        if control_characters(field.name):
            raise ValueError(f"control characters in the name of the column {field.name}")


def _has_its_type(field: pa.Field) -> bool:
    if field.name in _REQUIRED:
        return _REQUIRED[field.name](field.type)
    if field.name in _LATER:
        is_missing = pa.types.is_null(field.type) and field.name not in _COMPLETE
        return is_missing or _LATER[field.name](field.type)
    return not field.name.startswith(_METRICS) or _is_number_or_missing(field.type)


def check_values(table: pa.Table) -> None:
    """Check the values of the columns that were read from a shard.

    Args:
        table: Some columns of a shard, after `check_schema`.

    Raises:
        ValueError: A value is missing or impossible, or a text has control characters, which could steer a terminal.
    """
    for name in table.column_names:
        column = table[name]
        if any(control_characters(text) for text in _texts(column)):
            raise ValueError(f"control characters in the column {name}")
        if column.null_count and (name in _COMPLETE or (name in _ANNOTATIONS and name not in _OPTIONAL)):
            raise ValueError(f"no value in the column {name}")
        if name in _NAMES and (others := [value for value in column.unique().to_pylist() if value not in _NAMES[name]]):
            raise ValueError(f"{name} {others[0]}")
        if _ANNOTATIONS.get(name) in ("int", "float") and len(column) > column.null_count:
            _check_range(name, column)
    if "layers" in table.column_names:
        _check_layers(table["layers"])
    if "curves" in table.column_names:
        _check_curves(table["curves"])


def _check_range(name: str, column: pa.ChunkedArray) -> None:
    if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column)).as_py():
        raise ValueError(f"{name} that is not finite")
    low, high = (bound.as_py() for bound in pc.min_max(column).values())
    is_too_low = low < (-_LARGEST if name in _SIGNED else 0) or (low == 0 and name in _POSITIVE)
    if is_too_low or (high > 1 and name in _FRACTIONS) or (_ANNOTATIONS[name] == "int" and high > _LARGEST):
        raise ValueError(f"{name} {low if is_too_low else high}")


def _check_layers(column: pa.ChunkedArray) -> None:
    """Check that no run has two layers that its row of results refers to."""
    lists = column.combine_chunks()
    is_reference = pc.struct_field(pc.list_flatten(lists), "is_reference")
    if is_reference.null_count or lists.null_count:
        raise ValueError("no value in the column layers")
    runs = pc.list_parent_indices(lists).to_numpy()[is_reference.to_numpy(zero_copy_only=False)]
    if len(np.unique(runs)) < len(runs):
        raise ValueError("two reference layers of one run")


def _check_curves(column: pa.ChunkedArray) -> None:
    """Check that every curve of a run has a value at each of the run's evaluations, or none at all."""
    fields = {field.name: place for place, field in enumerate(column.type)}
    if "step" not in fields or column.null_count:
        raise ValueError("curves without steps")
    lengths = {
        name: np.concatenate([_lengths(chunk.field(place)) for chunk in column.chunks] or [np.zeros(0, np.int64)])
        for name, place in fields.items()
    }
    for name, numbers in lengths.items():
        if not np.isin(numbers[numbers != lengths["step"]], 0).all():
            raise ValueError(f"a curve {name} of another length than its steps")


def _lengths(lists: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if pa.types.is_null(lists.type):
        return np.zeros(len(lists), np.int64)
    lengths: np.ndarray[tuple[int], np.dtype[np.int64]] = (
        pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    return lengths


def _texts(column: pa.ChunkedArray | pa.Array) -> Iterator[str]:
    """Yield the different texts of a column, also inside lists and structs."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        yield from _texts(column.cast(kind.value_type))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        yield from (text for text in column.unique().to_pylist() if text is not None)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _texts(pc.list_flatten(column))
    elif pa.types.is_struct(kind):
        for field in kind:
            yield field.name
            yield from _texts(pc.struct_field(column, field.name))
