"""Training in this process, for experiments that take seconds or need the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from noisescale.claims.studies.specs import mnist1d_spec
from noisescale.datasets import load_dataset
from noisescale.families import ModelOptions, family_factory
from noisescale.parameterizations import reference_width
from noisescale.runs import Run
from noisescale.sweeps import SweepSpec
from noisescale.training import PackTrainer

# The theory assumes independent examples. The papers use the standard parameterization.
_TRAINING = {"sampling": "with_replacement"}
_GRID = {"parameterization": ["standard"]}


def small_spec(name: str, seeds: Sequence[int], **sections: Mapping[str, Any]) -> SweepSpec:
    """Build a spec of small MLPs on MNIST-1D, in the standard parameterization, with batches drawn with replacement.

    Args:
        name: Name of the spec.
        seeds: The seeds.
        **sections: Sections of the spec. Their keys replace the default keys.
    """
    grid, training = _GRID | dict(sections.pop("grid", {})), _TRAINING | dict(sections.pop("training", {}))
    spec = mnist1d_spec(name, 0, 1, grid=grid, training=training, **sections)
    return spec.model_copy(update={"seeds": tuple(seeds)})


def pack_trainers(spec: SweepSpec) -> list[PackTrainer]:
    """Return a trainer for each pack of a spec, at step 0, in the order of the grid.

    Args:
        spec: The spec.
    """
    packs: dict[Any, list[Run]] = {}
    for run in spec.runs():
        packs.setdefault(run.shape_key, []).append(run)
    data = load_dataset(spec.dataset.options(spec.dataset.label_noise))
    return [
        PackTrainer(
            runs, data, family_factory(ModelOptions.of_run(runs[0])), reference_width=reference_width(runs[0].width),
            kernel="explicit",
        )
        for runs in packs.values()
    ]  # fmt: skip


def train_curves(spec: SweepSpec) -> pd.DataFrame:
    """Train every run of a spec and return its curves.

    Args:
        spec: The spec.

    Returns:
        One row per evaluation, with the keys of its run. The column `number` numbers the runs from 0.
    """
    parts: list[pd.DataFrame] = []
    for trainer in pack_trainers(spec):
        trainer.advance()
        for result in trainer.results():
            keys = {name: value for name, value in asdict(result.run).items() if name not in result.curves}
            parts.append(pd.DataFrame(result.curves).assign(**keys, number=len(parts)))
    return pd.concat(parts, ignore_index=True)


def outputs(trainer: PackTrainer, inputs: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
    """Compute the outputs of a pack's networks on the same inputs.

    Args:
        trainer: The trainer of the pack.
        inputs: Inputs, shape [M, …].
        parameters: Parameters by name, shape [R, …], or None for the current parameters.

    Returns:
        Outputs, shape [R, M, K].
    """
    data, run = trainer.dataset, trainer.runs[0]
    module = family_factory(ModelOptions.of_run(run))(run.width, data.input_shape, data.num_classes).eval()

    def outputs_of_run(parameters_of_run: dict[str, Tensor]) -> Tensor:
        result: Tensor = functional_call(module, parameters_of_run, (inputs,))
        return result

    with torch.no_grad():
        results: Tensor = vmap(outputs_of_run)(dict(trainer.state.parameters if parameters is None else parameters))
    return results
