"""Initial weights of one run: a function of its seed and its table alone."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from noisescale.parameterizations.tables import Table


def stream(seed: int, *labels: str | int) -> torch.Generator:
    """A generator of its own for each use of a run's seed, so that no use disturbs another.

    Args:
        seed: The run's seed.
        labels: What the stream is for, e.g. ("data order", epoch).
    """
    return torch.Generator().manual_seed(stream_number(seed, *labels))


def stream_number(seed: int, *labels: str | int) -> int:
    """The number from which `stream` is seeded, for generators that are not torch's own to make."""
    text = ":".join(str(label) for label in (seed, *labels))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def initial_parameters(table: Table, factory_output: nn.Module, seed: int) -> dict[str, Tensor]:
    """The initial tensors that the table asks for, in float64 so that every precision starts from the same weights.

    Weights are drawn from N(0, σ_l²) one after another from the run's own stream (query rows with the deviation mσ_l);
    parameters without a rule keep the values of `factory_output`.

    Args:
        table: The run's table.
        factory_output: A module built under the run's seed, where the table keeps its start.
        seed: The run's seed.
    """
    generator = stream(seed, "initial weights")
    own = dict(factory_output.named_parameters())
    start: dict[str, Tensor] = {}
    for row in table:
        shape = row.parameter.shape
        if row.init_std is None:
            start[row.name] = own[row.name].detach().double().clone()
        elif row.init_std == 0.0:
            start[row.name] = torch.zeros(shape, dtype=torch.float64)
        else:
            start[row.name] = row.init_std * torch.randn(shape, generator=generator, dtype=torch.float64)
            if row.query_factor != 1.0:
                start[row.name] *= row.row_factors(row.query_factor)
    return start


def initial_std(table: Table, start: dict[str, Tensor]) -> dict[str, float]:
    """σ_l of every parameter: the table's, or, where the module's own start is kept, the one measured on that start.

    Of a tensor with query rows it is that of its other rows.
    """
    return {
        row.name: row.init_std if row.init_std is not None else float(start[row.name].std(correction=0))
        for row in table
    }
