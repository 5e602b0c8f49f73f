"""The growth of each parameter with width: its fan-in, its number of outputs, and their ratios to the base width."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from noisescale.errors import BadInput
from noisescale.parameterizations.places import Place, Role, Rows, find_places
from noisescale.parameterizations.query_rows import select_query_rows


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named parameter of a module, and how it grows with width.

    Args:
        name: Name of the parameter in the module.
        shape: Shape of the tensor.
        role: Role of the parameter: "weight", "bias" or "other".
        fan_in: Fan-in d of the layer, the number of inputs of each output unit. It is kernel_size² · channels for a
            convolution, and 1 for an embedding, because the input of an embedding is one-hot.
        grows: Whether d grows with width. False if the role is "bias" or "other".
        has_constant_start: Whether all entries start at the same value, as the gain of a normalization does.
        fan_in_ratio: For a weight, the ratio of d to its value at the base width. Otherwise 1.
        outputs_grow: Whether the number of output units grows with width. If the role is "other", whether the tensor
            grows.
        output_ratio: The ratio of the number of output units to its value at the base width. None if the role is
            "other" and several axes grow.
        query_rows: Half-open ranges of the rows that make the queries of an attention.
        query_ratio: The ratio of the number of entries of one query to its value at the base width.
        tied: Descriptions of the same tensor under its other names.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    fan_in: int | None
    grows: bool
    has_constant_start: bool
    fan_in_ratio: float = 1.0
    outputs_grow: bool = False
    output_ratio: float | None = 1.0
    query_rows: Rows = ()
    query_ratio: float = 1.0
    tied: tuple[Parameter, ...] = ()


def reference_width(width: int) -> int:
    """Return a second width. Comparing modules of both widths shows which fan-ins grow with width.

    Args:
        width: Width of the runs.
    """
    return 2 * width


def describe_parameters(
    module: nn.Module, reference: nn.Module, base: nn.Module | None = None, query_rows: Sequence[str] = ()
) -> tuple[Parameter, ...]:
    """Describe the trained parameters of a module: their roles, fan-ins and growth with width.

    A frozen parameter (`requires_grad = False`) has no rate and keeps the value that the module gives it, like a
    buffer. It is not described.

    Args:
        module: The model at the width to train.
        reference: The same model at another width. Dimensions that differ between the two models grow with width.
        base: The same model at the base width, for the ratios. If None, all ratios are 1.
        query_rows: Patterns that name the rows of queries, as in `select_query_rows`.

    Returns:
        The trained parameters, in the order of `named_parameters()`.

    Raises:
        BadInput: The names of parameters differ between widths, no parameter is trained, or a pattern does not fit.
    """
    places, other_places = _trained_places(module), _trained_places(reference)
    base_places = places if base is None else _trained_places(base)
    if not places:
        raise BadInput("model.family", "a module with a trained parameter", "requires_grad = False for all of them")
    for compared in (other_places, base_places):
        if _names_and_axes(compared) != _names_and_axes(places):
            required = "a factory that returns the same parameters, by name, at every width"
            raise BadInput("model.family", required, list(places))
    rows = select_query_rows(query_rows, places)
    base_rows = select_query_rows(query_rows, base_places)
    described = {}
    for name, place in places.items():
        base_place = base_places[name]
        described[name] = _describe(
            name,
            replace(place, query_rows=rows.get(name, place.query_rows)),
            other_places[name],
            replace(base_place, query_rows=base_rows.get(name, base_place.query_rows)),
        )
    names = defaultdict(list)
    for name, tensor in module.named_parameters(remove_duplicate=False):
        if tensor.requires_grad:
            names[id(tensor)].append(name)
    return tuple(
        replace(described[name], tied=tuple(described[name] for name in other_names))
        for name, *other_names in names.values()
    )


def _trained_places(module: nn.Module) -> dict[str, Place]:
    trained = {name for name, tensor in module.named_parameters(remove_duplicate=False) if tensor.requires_grad}
    return {name: place for name, place in find_places(module).items() if name in trained}


def read_out(parameters: tuple[Parameter, ...]) -> Parameter | None:
    """Return the read-out, the last weight whose fan-in grows with width. It defines the normalized noise scale ḡ.

    Args:
        parameters: The parameters, from `describe_parameters`.
    """
    growing = [parameter for parameter in parameters if parameter.grows]
    return growing[-1] if growing else None


def _names_and_axes(places: dict[str, Place]) -> list[tuple[str, int]]:
    return [(name, len(place.shape)) for name, place in places.items()]


def _describe(name: str, place: Place, reference: Place, base: Place) -> Parameter:
    """Describe a parameter from its places at the width to train, at another width and at the base width."""
    outputs_grow, output_ratio = _output_growth(place, reference, base)
    return Parameter(
        name=name,
        shape=place.shape,
        role=place.role,
        fan_in=place.fan_in,
        grows=place.role == "weight" and len({place.fan_in, reference.fan_in, base.fan_in}) > 1,
        has_constant_start=place.is_constant,
        fan_in_ratio=_ratio(place.fan_in, base.fan_in) if place.role == "weight" else 1.0,
        outputs_grow=outputs_grow,
        output_ratio=output_ratio,
        query_rows=place.query_rows,
        query_ratio=_query_ratio(place, base),
    )


def _output_growth(place: Place, reference: Place, base: Place) -> tuple[bool, float | None]:
    """Return whether the number of output units grows, and its ratio to the base width.

    For a parameter of an unknown layer, the growing axis counts as the axis of output units.
    """
    sizes = list(zip(place.shape, reference.shape, base.shape, strict=True))
    growing = [axis for axis, axis_sizes in enumerate(sizes) if len(set(axis_sizes)) > 1]
    if place.output_axis is not None:
        growing = [axis for axis in growing if axis == place.output_axis]
    if len(growing) > 1:
        return True, None
    return bool(growing), _ratio(place.shape[growing[0]], base.shape[growing[0]]) if growing else 1.0


def _query_ratio(place: Place, base: Place) -> float:
    """Return the growth ratio of one query. If the size of a head is unknown, the number of heads is assumed fixed."""
    if place.head_size is not None:
        return _ratio(place.head_size, base.head_size)
    return _ratio(count_rows(place.query_rows), count_rows(base.query_rows))


def count_rows(ranges: Rows) -> int:
    """Count the rows that lie in at least one of the ranges.

    Args:
        ranges: Half-open ranges of rows.
    """
    return len({row for start, stop in ranges for row in range(start, stop)})


def _ratio(size: int | None, base: int | None) -> float:
    return size / base if size and base else 1.0
