"""Initialization of a pack: its module, and the table and the initial tensors of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisescale.datasets import Dataset
from noisescale.families import Factory, build, equal_tensors
from noisescale.parameterizations import (
    Table,
    build_table,
    describe_parameters,
    initial_parameters,
    initial_variances,
    multipliers_of_text,
    multiply_rates,
)
from noisescale.runs import Run


@dataclass(frozen=True)
class InitialPack:
    """The initial state of a pack.

    Args:
        module: A module with the width of the pack. Its forward pass is used.
        tables: The parameterization's table of each run.
        tensors: Initial tensors of each run by name, in float64.
        buffers: For each run, the frozen parameters (`requires_grad = False`), and the buffers that the factory draws
            at random or copies from parameters, by name.
        variances: Variances σ_l² of the parameters that keep their initial value in the module, by name. All runs
            share them.
    """

    module: nn.Module
    tables: list[Table]
    tensors: list[dict[str, Tensor]]
    buffers: list[dict[str, Tensor]]
    variances: Mapping[str, float]

    def stacked(self, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return the initial tensors, stacked along the run axis, shape [R, …] each."""
        return {
            row.name: torch.stack([tensors[row.name] for tensors in self.tensors]).to(device=device, dtype=dtype)
            for row in self.tables[0]
        }


def initialize_pack(runs: Sequence[Run], dataset: Dataset, factory: Factory, reference_width: int) -> InitialPack:
    """Build the module and draw the initial tensors of each run from its seed.

    Args:
        runs: The runs of a pack.
        dataset: The data. Only the input shape and the number of classes are used.
        factory: A function `(width, input_shape, num_classes) -> nn.Module`.
        reference_width: Another width. The comparison with it shows which fan-ins grow with width.
    """
    any_run, data = runs[0], (dataset.input_shape, dataset.num_classes)
    module, reference = (build(factory, width, *data, any_run.seed) for width in (any_run.width, reference_width))
    base = None if any_run.base_width is None else build(factory, any_run.base_width, *data, any_run.seed)
    described = describe_parameters(module, reference, base, any_run.query_rows.split())
    factors = multipliers_of_text(any_run.rate_multipliers)
    tables = [multiply_rates(build_table(run.parameterization, described, run.init_scale), factors) for run in runs]
    tensors = [_draw(table, factory, run, dataset) for table, run in zip(tables, runs, strict=True)]
    variances = initial_variances(tables[0], factory, any_run.width, *data)
    buffers = _untrained_tensors(module, factory, runs, dataset)
    for name, copied in _copies(module).items():
        for buffers_of_run, tensors_of_run in zip(buffers, tensors, strict=True):
            buffers_of_run[name] = tensors_of_run[copied]
    return InitialPack(module, tables, tensors, buffers, variances)


def _copies(module: nn.Module) -> dict[str, str]:
    """Return the parameter that each untrained tensor copies at its start, such as a moving average of weights."""
    trained = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    return {
        copied: name
        for copied, tensor in {**_frozen(module), **dict(module.named_buffers())}.items()
        for name, parameter in trained
        # Constants, such as biases of zeros, may be equal by chance.
        if equal_tensors(tensor, parameter) and bool((parameter != parameter.flatten()[:1]).any())
    }


def _frozen(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are not trained. A pass may change them, so each run holds them like buffers."""
    return {name: tensor.detach() for name, tensor in module.named_parameters() if not tensor.requires_grad}


def _untrained_tensors(
    module: nn.Module, factory: Factory, runs: Sequence[Run], dataset: Dataset
) -> list[dict[str, Tensor]]:
    """Return the frozen parameters and the buffers that depend on the seed, as the factory builds them for each run."""
    shared, frozen = dict(module.named_buffers()), _frozen(module)
    rebuilt = dict(_build(factory, runs[0], dataset, runs[0].seed + 1).named_buffers()) if shared else {}
    drawn = [name for name, buffer in shared.items() if not equal_tensors(buffer, rebuilt[name])]
    names = [*frozen, *drawn]
    if not names:
        return [{} for _ in runs]
    by_seed = {}
    for seed in {run.seed for run in runs}:
        built = _build(factory, runs[0], dataset, seed)
        tensors = {**_frozen(built), **dict(built.named_buffers())}
        by_seed[seed] = {name: tensors[name] for name in names}
    return [dict(by_seed[run.seed]) for run in runs]


def _build(factory: Factory, run: Run, dataset: Dataset, seed: int) -> nn.Module:
    return build(factory, run.width, dataset.input_shape, dataset.num_classes, seed)


def _draw(table: Table, factory: Factory, run: Run, dataset: Dataset) -> dict[str, Tensor]:
    """Draw the initial tensors of a run. If the table keeps values of the module, build it with the run's seed."""
    if all(row.init_std is not None for row in table):
        return initial_parameters(table, nn.Module(), run.seed)
    return initial_parameters(table, _build(factory, run, dataset, run.seed), run.seed)
