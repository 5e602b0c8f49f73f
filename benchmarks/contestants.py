"""The programs that are timed: each trains networks with 10 outputs on the same synthetic data."""

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
from noisescale.training.footprint import footprint
from noisescale.training.kernels import Trial, choose_kernel
from noisescale.training.losses import LOSSES
from noisescale.training.parts import part_size

EXAMPLES, OUTPUTS, LEARNING_RATE = 4000, 10, 0.01


@dataclass(frozen=True)
class Row:
    """One line of the table of MLPs: units of both hidden layers, examples a batch, runs a pack, numbers an input."""

    width: int
    batch: int
    runs: int
    inputs: int

    @property
    def options(self) -> ModelOptions:
        """Two hidden layers."""
        return ModelOptions("mlp", depth=2)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return (self.inputs,)

    @property
    def steps(self) -> int:
        """Steps of one call of `advance`: enough to time, few enough to stop in time."""
        return 128 if self.width < 512 else 16

    @property
    def operations(self) -> int:
        """Floating-point operations of one step of one run that its matrix products need.

        Forward, weight gradients and backward; no gradient of the inputs is needed, so the first layer counts twice.
        """
        first, others = self.inputs * self.width, self.width**2 + OUTPUTS * self.width
        return 2 * self.batch * (2 * first + 3 * others)


@dataclass(frozen=True)
class ImageRow:
    """One line of the table of convolutional networks: a family on 28×28 images, channels, batch, runs a pack."""

    options: ModelOptions
    width: int
    batch: int
    runs: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return (1, 28, 28)

    @property
    def steps(self) -> int:
        """Steps of one call of `advance`."""
        return 4


class Contestant(Protocol):
    """Something that trains `runs` networks at once, `Row.steps` a call."""

    runs: int

    def advance(self) -> None: ...


def model(row: Row | ImageRow) -> nn.Module:
    return family_factory(row.options)(row.width, row.shape, OUTPUTS)


def dataset(row: Row | ImageRow) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(EXAMPLES, *row.shape, generator=generator)
    y = torch.randint(OUTPUTS, (EXAMPLES,), generator=generator)
    return Dataset("synthetic", x, y, x[:0], y[:0], x[:100], y[:100], row.shape, OUTPUTS, 0.1, "synthetic")


def order(row: Row | ImageRow, runs: int) -> Tensor:
    """Indices [steps, runs, B] drawn beforehand and used again and again."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(EXAMPLES, (row.steps, runs, row.batch), generator=generator)


class PlainLoop:
    """What anybody writes: a module, autograd, `torch.optim.SGD`; nothing but training in the loop.

    Arguments:
        implementation: of the optimizer: "single", "foreach" or "fused".
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
    """Gradients and update alone, on one fixed batch, without losses, for as many runs as the trainer takes at once.

    Arguments:
        kind: "auto" for the explicit kernel, "vmap" for `torch.func` (all runs of the row at once).
    """

    def __init__(self, row: Row, kind: str) -> None:
        data, module = dataset(row), model(row)
        one = {name: tensor.detach().unsqueeze(0) for name, tensor in module.named_parameters()}
        whole = {name: tensor.expand(row.runs, *tensor.shape[1:]) for name, tensor in one.items()}
        self.runs = (
            part_size(whole, row.batch, footprint(module, data.x_train[:2]).kept) if kind == "auto" else row.runs
        )
        self._parameters = {name: tensor[: self.runs].clone() for name, tensor in whole.items()}
        table = build_table("own", describe_parameters(module, module))
        self._sgd = OPTIMIZERS["sgd"].pack(pack(row)[: self.runs], [table] * self.runs, self._parameters)
        index = order(row, self.runs)[0]
        self._steps = row.steps
        self._inputs = data.x_train[index]
        self._targets = nn.functional.one_hot(data.y_train[index], OUTPUTS).float()
        trial = Trial(self._parameters, {}, self._inputs, self._targets)
        self._kernel = choose_kernel(module, LOSSES["cross_entropy"], trial, kind).kernel

    def advance(self) -> None:
        with torch.no_grad():
            for _ in range(self._steps):
                _, gradients = self._kernel.losses_and_gradients(
                    self._parameters, {}, self._inputs, self._targets, False
                )
                self._sgd.step(self._parameters, {}, gradients)


class Trainer:
    """`PackTrainer.advance` as a sweep calls it: with sampling and the look for divergence; evaluated once."""

    def __init__(self, row: Row | ImageRow) -> None:
        self.runs, factory = row.runs, family_factory(row.options)
        self._trainer = PackTrainer(pack(row), dataset(row), factory, reference_width=2 * row.width)
        self.kernel = self._trainer.choice
        self._trainer.advance(1)
        self._steps = row.steps

    def advance(self) -> None:
        self._trainer.advance(self._trainer.state.step + self._steps)


def pack(row: Row | ImageRow) -> list[Run]:
    """Runs with a seed each, so that no order of examples is shared, and a budget that is never reached."""
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
