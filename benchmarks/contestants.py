"""The programs that are timed. Each trains networks with 10 outputs on the same synthetic data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from noisescale.datasets import Dataset
from noisescale.families import ModelOptions, family_factory
from noisescale.parameterizations import build_table, describe_parameters
from noisescale.runs import Run
from noisescale.training import OPTIMIZERS, PackTrainer
from noisescale.training.kernels import Trial, choose_kernel
from noisescale.training.losses import LOSSES
from noisescale.training.memory import footprint, part_size
from noisescale.training.objectives import RowObjective

EXAMPLES, OUTPUTS, LEARNING_RATE = 4000, 10, 0.01


@dataclass(frozen=True)
class Row:
    """A line of the table of MLPs.

    Args:
        width: Units of each hidden layer.
        batch: Examples in a batch.
        runs: Runs in a pack.
        inputs: Number of elements of an input.
    """

    width: int
    batch: int
    runs: int
    inputs: int

    @property
    def options(self) -> ModelOptions:
        """The model: two hidden layers."""
        return ModelOptions("mlp", depth=2)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return (self.inputs,)

    @property
    def steps(self) -> int:
        """Number of steps in one call of `advance`: enough to time them, and few enough to stop on time."""
        return 128 if self.width < 512 else 16

    @property
    def operations(self) -> int:
        """Floating-point operations of the matrix products in one step of one run.

        A layer has three products: forward, weight gradients and backward. The first layer has two, because the
        gradient of the inputs is not needed.
        """
        first, others = self.inputs * self.width, self.width**2 + OUTPUTS * self.width
        return 2 * self.batch * (2 * first + 3 * others)


@dataclass(frozen=True)
class ImageRow:
    """A line of the table of convolutional networks on 28×28 images.

    Args:
        options: The model.
        width: Channels.
        batch: Examples in a batch.
        runs: Runs in a pack.
    """

    options: ModelOptions
    width: int
    batch: int
    runs: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return (1, 28, 28)

    @property
    def steps(self) -> int:
        """Steps in one call of `advance`."""
        return 4


class Contestant(Protocol):
    """A program that trains `runs` networks at once."""

    runs: int

    def advance(self) -> None:
        """Train `Row.steps` steps."""


def model(row: Row | ImageRow) -> nn.Module:
    """Build the network of a row."""
    return family_factory(row.options)(row.width, row.shape, OUTPUTS)


def dataset(row: Row | ImageRow) -> Dataset:
    """Draw synthetic data for a row."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(EXAMPLES, *row.shape, generator=generator)
    y = torch.randint(OUTPUTS, (EXAMPLES,), generator=generator)
    return Dataset("synthetic", x, y, x[:0], y[:0], x[:100], y[:100], row.shape, OUTPUTS, 0.1, "synthetic")


def order(row: Row | ImageRow, runs: int) -> Tensor:
    """Draw the indices of all batches in advance, shape [steps, runs, B]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(EXAMPLES, (row.steps, runs, row.batch), generator=generator)


class PlainLoop:
    """The usual training loop with a module, autograd and `torch.optim.SGD`. The loop only trains.

    Args:
        row: The networks and the data.
        implementation: Implementation of the optimizer: "single", "foreach" or "fused".
    """

    runs = 1

    def __init__(self, row: Row | ImageRow, implementation: str) -> None:
        data = dataset(row)
        self._x, self._y, self._order = data.x_train, data.y_train, order(row, 1)[:, 0].unbind()
        self._model, self._loss = model(row), nn.CrossEntropyLoss()
        options = {"foreach": implementation == "foreach", "fused": implementation == "fused"}
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=LEARNING_RATE, **options)

    def advance(self) -> None:
        for index in self._order:
            self._optimizer.zero_grad()
            self._loss(self._model(self._x[index]), self._y[index]).backward()
            self._optimizer.step()


class BareKernel:
    """Gradients and update on one fixed batch, without losses, for as many runs as the trainer processes at once.

    Args:
        row: The networks and the data.
        kind: "auto" for the explicit kernel, or "vmap" for `torch.func` with all runs of the row at once.
    """

    def __init__(self, row: Row, kind: str) -> None:
        data, module = dataset(row), model(row)
        whole = {name: tensor.detach().expand(row.runs, *tensor.shape) for name, tensor in module.named_parameters()}
        self.runs = (
            part_size(whole, row.batch, footprint(module, data.x_train[:2]).kept) if kind == "auto" else row.runs
        )
        self._parameters = {name: tensor[: self.runs].clone() for name, tensor in whole.items()}
        table = build_table("own", describe_parameters(module, module))
        self._sgd = OPTIMIZERS["sgd"].for_pack(pack(row)[: self.runs], [table] * self.runs, self._parameters)
        index = order(row, self.runs)[0]
        self._steps = row.steps
        self._inputs = data.x_train[index]
        self._targets = nn.functional.one_hot(data.y_train[index], OUTPUTS).float()
        trial = Trial(self._parameters, {}, self._inputs, self._targets)
        self._kernel = choose_kernel(module, RowObjective(LOSSES["cross_entropy"]), trial, kind).kernel

    def advance(self) -> None:
        with torch.no_grad():
            for _ in range(self._steps):
                _, gradients = self._kernel.losses_and_gradients(
                    self._parameters, {}, self._inputs, self._targets, False
                )
                self._sgd.step(self._parameters, {}, gradients)


class Trainer:
    """`PackTrainer.advance` as a sweep calls it, with sampling and the check for divergence. It evaluates once."""

    def __init__(self, row: Row | ImageRow) -> None:
        self.runs, factory = row.runs, family_factory(row.options)
        self._trainer = PackTrainer(pack(row), dataset(row), factory, reference_width=2 * row.width)
        self.kernel = self._trainer.choice
        self._trainer.advance(1)
        self._steps = row.steps

    def advance(self) -> None:
        self._trainer.advance(self._trainer.state.step + self._steps)


def pack(row: Row | ImageRow) -> list[Run]:
    """Return the runs of a row.

    Every run has another seed, so no two runs share an order of examples. The benchmark never reaches their budget.
    """
    return [
        Run(
            dataset="synthetic",
            dataset_hash="synthetic",
            train_size=EXAMPLES,
            test_size=100,
            validation_fraction=0.0,
            label_noise=0.0,
            data_seed=0,
            **row.options.run_fields(),
            parameterization="standard",
            width=row.width,
            learning_rate=LEARNING_RATE,
            batch_size=row.batch,
            momentum=0.0,
            weight_decay=0.0,
            init_scale=2.0,
            seed=seed,
            steps=10**9,
            schedule="constant",
            evaluations=1,
            late_fraction=0.25,
            loss="cross_entropy",
            sampling="epoch_shuffle",
            precision="float32",
        )
        for seed in range(row.runs)
    ]
