"""The variance of initial values that a module draws itself. It is one number per module and width, for all seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from noisescale.input_shapes import InputShape
from noisescale.parameterizations.fan_in import read_out
from noisescale.parameterizations.stratified_draws import StratifiedDraws
from noisescale.parameterizations.tables import Table
from noisescale.seeding import seeded

# Modules are drawn until their read-outs have this many entries in all draws together. Stratified numbers then give
# the variance to 0.1 %.
ENTRIES = 1 << 14
MIN_DRAWS, MAX_DRAWS = 2, 48

# A function `(width, input_shape, num_classes) -> nn.Module`.
Build = Callable[[int, Any, int], nn.Module]


def initial_variances(
    table: Table, factory: Build, width: int, input_shape: InputShape, num_classes: int
) -> Mapping[str, float]:
    """Return the variance σ_l² of the parameters that keep the module's initial values, over draws of the module.

    A seed's sample variance of a small read-out differs by several percent between seeds. The variance over many draws
    is the value that the initializer implies: 1/(3d) for torch's linear layers with fan-in d. The draws are the same
    in every process, and each process computes them once per factory and width.

    Args:
        table: The parameterization's table of the run.
        factory: The factory of the module.
        width: Width of the module.
        input_shape: Shape of one example.
        num_classes: Number of outputs.

    Returns:
        The variance by name, with 0 for a parameter that starts at a constant. Parameters whose σ_l the table states
        are left out.
    """
    random = tuple(row.name for row in table if row.init_std is None and not row.parameter.has_constant_start)
    constant = {row.name: 0.0 for row in table if row.init_std is None and row.parameter.has_constant_start}
    if not random:
        return constant
    reference = read_out(tuple(row.parameter for row in table))
    entries = ENTRIES if reference is None else int(torch.Size(reference.shape).numel())
    draws = min(max(MIN_DRAWS, -(-ENTRIES // entries)), MAX_DRAWS)
    return {**constant, **_variances(random, draws, factory, width, input_shape, num_classes)}


@lru_cache(maxsize=256)
def _variances(
    names: tuple[str, ...], draws: int, factory: Build, width: int, input_shape: InputShape, num_classes: int
) -> dict[str, float]:
    """Return the variance of the named parameters over the entries of all draws."""
    sums = {name: torch.zeros(3, dtype=torch.float64) for name in names}
    for draw in range(draws):
        module = _draw(lambda: factory(width, input_shape, num_classes), draw, draws)
        values = dict(module.named_parameters())
        for name in names:
            tensor = values[name].detach().double().cpu()
            sums[name] += torch.stack([tensor.new_tensor(tensor.numel()), tensor.sum(), tensor.square().sum()])
    return {name: _variance(*moments.tolist()) for name, moments in sums.items()}


def _variance(count: float, total: float, square: float) -> float:
    return max(square / count - (total / count) ** 2, 0.0)


def _draw(build: Callable[[], nn.Module], draw: int, draws: int) -> nn.Module:
    """Build the module with stratified random numbers, or with torch's if the module cannot be built in this mode."""
    for mode in (StratifiedDraws(draw, draws), nullcontext()):
        with seeded(draw):
            try:
                with mode:
                    return build()
            except Exception:  # a user's factory may raise anything
                if not isinstance(mode, StratifiedDraws):
                    raise
    raise AssertionError
