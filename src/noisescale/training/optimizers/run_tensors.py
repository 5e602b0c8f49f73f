"""Per-run numbers as tensors along the run axis, shaped to multiply the parameters of a pack."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from noisescale.parameterizations import Row, Table

Tensors = dict[str, Tensor]

# A function from a row of a parameterization's table to two numbers: the multiplier of the whole parameter, and an
# additional factor for its query rows, the rows that compute the queries of attention.
Multiplier = Callable[[Row], tuple[float, float]]


class RunTensors(Tensors):
    """Small tensors by name. They are views of one flat tensor, so that one operation can change all of them.

    Args:
        tensors: One tensor per parameter, shape [R, 1, …], or [R, rows, 1, …] if the rows of a parameter differ.
        like: The parameters by name. Only their precision and device are used.
    """

    def __init__(self, tensors: Tensors, like: Tensors) -> None:
        self.flat = torch.cat([tensor.flatten().to(like[name]) for name, tensor in tensors.items()])
        parts = torch.split(self.flat, [tensor.numel() for tensor in tensors.values()])
        views = zip(tensors.items(), parts, strict=True)
        super().__init__({name: part.view(tensor.shape) for (name, tensor), part in views})

    def copy(self) -> RunTensors:
        """Return an independent copy."""
        return RunTensors(self, self)


def along_runs(values: Sequence[float], tensor: Tensor) -> Tensor:
    """Return one number per run, in float64, with the shape [R, 1, …] that multiplies a parameter [R, …]."""
    return torch.tensor(values, dtype=torch.float64).view(len(values), *(1,) * (tensor.dim() - 1))


def table_multipliers(tables: Sequence[Table], like: Tensors, multiplier: Multiplier) -> Tensors:
    """Return a multiplier of every parameter and run, in float64.

    Args:
        tables: The parameterization's table of each run.
        like: The parameters by name, shape [R, …] each.
        multiplier: A function from a row of a table to its multiplier and the further factor of its query rows.

    Returns:
        The multipliers by parameter, shape [R, 1, …], or [R, rows, 1, …] if the query rows of a tensor have a factor.
    """
    columns = {row.name: [table[place] for table in tables] for place, row in enumerate(tables[0])}
    return {name: _multipliers(columns[name], tensor, multiplier) for name, tensor in like.items()}


def sgd_multiplier(row: Row) -> tuple[float, float]:
    """Return the rate multiplier c of an optimizer whose step is proportional to the gradient.

    Args:
        row: Row of a parameterization's table.

    Returns:
        The multiplier, and the factor of the tensor's query rows.
    """
    return row.multiplier, row.query_factor**2


def rate_factor(row: Row) -> tuple[float, float]:
    """Return the user's factor of the rate, which is the same for query rows.

    Args:
        row: Row of a parameterization's table.
    """
    return row.rate_factor, 1.0


def sgd_multipliers(tables: Sequence[Table], like: Tensors) -> Tensors:
    """Return SGD's rate divided by ε, for every parameter and run, in the precision of the parameters.

    Args:
        tables: The parameterization's table of each run.
        like: The parameters by name, shape [R, …] each.

    Returns:
        The multipliers by parameter, shape [R, 1, …], or [R, rows, 1, …] if the query rows of a tensor have a factor.
    """
    multipliers, factors = (table_multipliers(tables, like, number) for number in (sgd_multiplier, rate_factor))
    return {name: (multiplier * factors[name]).to(like[name]) for name, multiplier in multipliers.items()}


def _multipliers(rows: Sequence[Row], tensor: Tensor, multiplier: Multiplier) -> Tensor:
    pairs = [multiplier(row) for row in rows]
    multipliers = along_runs([number for number, _ in pairs], tensor)
    if all(row.query_factor == 1.0 for row in rows):
        return multipliers
    return multipliers * torch.stack([row.row_factors(factor) for row, (_, factor) in zip(rows, pairs, strict=True)])
