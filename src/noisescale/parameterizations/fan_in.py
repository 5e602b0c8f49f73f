"""What width does to each parameter: which fan-ins and outputs grow, and by how much since the base width."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from noisescale.errors import BadInput
from noisescale.parameterizations.places import Place, Role, Rows, places
from noisescale.parameterizations.query_rows import select_query_rows


@dataclass(frozen=True, slots=True)
class Parameter:
    """One named parameter of a module.

    Args:
        fan_in: D, inputs per output unit (for a convolution kernel_size² · channels, for an embedding 1: its input is
            one-hot); of the layer, for a bias.
        grows: Whether d differs between the module and its reference at another width.
        has_constant_start: For "other": whether the module starts it at one value (a normalization layer's gain).
        fan_in_ratio: Of a weight, d over the d of the base width.
        outputs_grow: Whether the number of output units grows; for "other", whether the tensor does.
        output_ratio: That number over its value at the base width; None where more than one axis of an "other" grows.
        query_rows: Half-open ranges of the rows that make an attention's queries.
        query_ratio: Entries of one query over those at the base width.
        tied: The same tensor in its other places.
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


def describe_parameters(
    module: nn.Module, reference: nn.Module, base: nn.Module | None = None, query_rows: Sequence[str] = ()
) -> tuple[Parameter, ...]:
    """The parameters of `module`, with their roles, fan-ins and growth, in the order of `named_parameters()`.

    Args:
        module: The model at the width to be trained.
        reference: The same model at another width, from which growth is seen.
        base: The same model at the base width, from which ratios are taken; None: every ratio is 1.
        query_rows: Patterns of the rows that make queries, as `select_query_rows` takes them.

    Raises:
        BadInput: Another width has other parameters than the module, a parameter does not train, or a pattern cannot be
            used.
    """
    for name, tensor in module.named_parameters():
        if not tensor.requires_grad:
            required = f"parameters that all train; register {name!r} as a buffer where it stays as it is"
            raise BadInput("model.family", required, "requires_grad = False")
    here, there = places(module), places(reference)
    start = here if base is None else places(base)
    for other in (there, start):
        if [(name, len(place.shape)) for name, place in here.items()] != [
            (name, len(place.shape)) for name, place in other.items()
        ]:
            raise BadInput(
                "model.family", "a factory that returns the same parameters, by name, at every width", list(here)
            )
    rows = select_query_rows(query_rows, here)
    base_rows = select_query_rows(query_rows, start)
    described = {}
    for name, place in here.items():
        queries, base_queries = (
            replace(one, query_rows=chosen.get(name, one.query_rows))
            for one, chosen in ((place, rows), (start[name], base_rows))
        )
        described[name] = _describe(name, queries, there[name], base_queries)
    names = defaultdict(list)
    for name, tensor in module.named_parameters(remove_duplicate=False):
        names[id(tensor)].append(name)
    return tuple(
        replace(described[first], tied=tuple(described[name] for name in others)) for first, *others in names.values()
    )


def read_out(parameters: tuple[Parameter, ...]) -> Parameter | None:
    """The reference layer of the normalized noise scale: the last weight whose fan-in grows with width."""
    growing = [parameter for parameter in parameters if parameter.grows]
    return growing[-1] if growing else None


def _describe(name: str, here: Place, there: Place, start: Place) -> Parameter:
    outputs_grow, output_ratio = _outputs(here, there, start)
    return Parameter(
        name=name,
        shape=here.shape,
        role=here.role,
        fan_in=here.fan_in,
        grows=here.role == "weight" and len({here.fan_in, there.fan_in, start.fan_in}) > 1,
        has_constant_start=here.is_constant,
        fan_in_ratio=_ratio(here.fan_in, start.fan_in) if here.role == "weight" else 1.0,
        outputs_grow=outputs_grow,
        output_ratio=output_ratio,
        query_rows=here.query_rows,
        query_ratio=_query_ratio(here, start),
    )


def _outputs(here: Place, there: Place, start: Place) -> tuple[bool, float | None]:
    """Whether the output units grow, and their ratio to the base; for a tensor of no layer, those of its one axis."""
    sizes = list(zip(here.shape, there.shape, start.shape, strict=True))
    growing = [axis for axis, axis_sizes in enumerate(sizes) if len(set(axis_sizes)) > 1]
    if here.output_axis is not None:
        growing = [axis for axis in growing if axis == here.output_axis]
    if len(growing) > 1:
        return True, None
    return bool(growing), _ratio(here.shape[growing[0]], start.shape[growing[0]]) if growing else 1.0


def _query_ratio(here: Place, start: Place) -> float:
    """Growth of one query; where the layer does not tell the heads apart, their number is taken to be fixed."""
    if here.head_size is not None:
        return _ratio(here.head_size, start.head_size)
    return _ratio(count_rows(here.query_rows), count_rows(start.query_rows))


def count_rows(ranges: Rows) -> int:
    """Rows in any of the ranges."""
    return len({row for start, stop in ranges for row in range(start, stop)})


def _ratio(size: int | None, base: int | None) -> float:
    return size / base if size and base else 1.0
