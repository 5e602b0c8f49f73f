"""The initial weights of a run. They depend only on the seed and the table of the run."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from noisescale.parameterizations.tables import Table


def stream(seed: int, *labels: str | int) -> torch.Generator:
    """Return a random generator for one use of a run's seed. Generators for different uses are independent.

    Args:
        seed: Seed of the run.
        labels: Name of the use, e.g. ("data order", epoch).
    """
    return torch.Generator().manual_seed(stream_number(seed, *labels))


def stream_number(seed: int, *labels: str | int) -> int:
    """Return the seed that `stream` uses, for generators other than torch's.

    Args:
        seed: Seed of the run.
        labels: Name of the use, e.g. ("data order", epoch).
    """
    text = ":".join(str(label) for label in (seed, *labels))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def initial_parameters(table: Table, factory_output: nn.Module, seed: int) -> dict[str, Tensor]:
    """Draw the initial parameters of a run. They are in float64, so that all precisions start from the same weights.

    Weights are drawn from N(0, σ_l²) in the order of the table, and query rows from N(0, m²σ_l²). A parameter without
    σ_l keeps its value in the module.

    Args:
        table: The parameterization's table of the run.
        factory_output: The module that the factory built with the seed of the run.
        seed: Seed of the run.

    Returns:
        The initial parameters by name.
    """
    generator = stream(seed, "initial weights")
    module_values = dict(factory_output.named_parameters())
    start: dict[str, Tensor] = {}
    for row in table:
        shape = row.parameter.shape
        if row.init_std is None:
            start[row.name] = module_values[row.name].detach().double().clone()
        elif row.init_std == 0.0:
            start[row.name] = torch.zeros(shape, dtype=torch.float64)
        else:
            start[row.name] = row.init_std * torch.randn(shape, generator=generator, dtype=torch.float64)
            if row.query_factor != 1.0:
                start[row.name] *= row.row_factors(row.query_factor)
    return start
