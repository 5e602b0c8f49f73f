"""Runs of a spec trained in this process, for experiments that take seconds or that look at the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from noisescale.claims.studies import mnist1d
from noisescale.datasets import load_dataset
from noisescale.families import ModelOptions, family_factory
from noisescale.runs import Run
from noisescale.sweeps import SweepSpec
from noisescale.training import PackTrainer

# Independent examples, as the theory has them, and the standard parameterization, as the paper has it.
_TRAINING = {"sampling": "with_replacement"}
_GRID = {"parameterization": ["standard"]}


def small_spec(name: str, seeds: Sequence[int], **sections: Mapping[str, Any]) -> SweepSpec:
    """MLPs of one hidden layer in the standard parameterization on MNIST-1D, batches drawn with replacement."""
    grid, training = _GRID | dict(sections.pop("grid", {})), _TRAINING | dict(sections.pop("training", {}))
    spec = mnist1d(name, 0, 1, grid=grid, training=training, **sections)
    return spec.model_copy(update={"seeds": tuple(seeds)})


def trainers(spec: SweepSpec) -> list[PackTrainer]:
    """A trainer for each pack of a spec, at step 0; packs in the order of the grid."""
    packs: dict[Any, list[Run]] = {}
    for run in spec.runs():
        packs.setdefault(run.shape_key, []).append(run)
    data = load_dataset(spec.dataset.options(spec.dataset.label_noise))
    return [
        PackTrainer(
            runs, data, family_factory(ModelOptions.of_run(runs[0])), reference_width=2 * runs[0].width,
            kernel="explicit",
        )
        for runs in packs.values()
    ]  # fmt: skip


def trained_curves(spec: SweepSpec) -> pd.DataFrame:
    """Train every run of a spec: a row an evaluation, with the run's own keys and its number, `number`, from 0."""
    parts: list[pd.DataFrame] = []
    for trainer in trainers(spec):
        trainer.advance()
        for result in trainer.results():
            keys = {name: own for name, own in asdict(result.run).items() if name not in result.curves}
            parts.append(pd.DataFrame(result.curves).assign(**keys, number=len(parts)))
    return pd.concat(parts, ignore_index=True)


def outputs(trainer: PackTrainer, inputs: Tensor, at: dict[str, Tensor] | None = None) -> Tensor:
    """Outputs [R, M, K] of a pack's networks on the same inputs [M, …], as they are now or at other weights."""
    data, run = trainer.dataset, trainer.runs[0]
    module = family_factory(ModelOptions.of_run(run))(run.width, data.input_shape, data.num_classes).eval()

    def of_one(parameters: dict[str, Tensor]) -> Tensor:
        found: Tensor = functional_call(module, parameters, (inputs,))
        return found

    with torch.no_grad():
        found: Tensor = vmap(of_one)(trainer.state.parameters if at is None else at)
    return found
