"""The runs of a spec: the cross product of the axes, which are the lists in its section `[grid]`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from noisescale.datasets import Dataset, DatasetOptions, load_dataset
from noisescale.errors import BadInput
from noisescale.families import (
    FAMILIES,
    Factory,
    ModelOptions,
    PretrainedFactory,
    family_factory,
    file_digest,
    in_mode,
)
from noisescale.parameterizations import (
    WITH_BASE_WIDTH,
    WITH_QUERY_ROWS,
    multipliers_text,
)
from noisescale.runs import Run
from noisescale.seeding import seeded
from noisescale.store import AcceptedBatches
from noisescale.sweeps.axes import LARGEST_INTEGER
from noisescale.sweeps.code_identity import CodeIdentity, identify
from noisescale.sweeps.noise_ratio import read_out_ratio
from noisescale.sweeps.spec_fields import SpecFields
from noisescale.sweeps.trial_batches import find_accepted_batches
from noisescale.training import (
    ACCURACY,
    LOSS,
    OPTIMIZERS,
    MovingBatches,
    Schedule,
    metric_name,
    other_statistics,
    parse_schedule,
)
from noisescale.user_code import contained


@dataclass(frozen=True, slots=True)
class Point:
    """The coordinates of a cell along the axes of a grid. The runs of a cell differ only in the seed.

    Args:
        parameterization: Name of the parameterization.
        width: Width of the model.
        batch_size: Batch size, in examples.
        rate: Value on the spec's rate axis, which is `learning_rate`, `noise_scale`, `normalized_noise_scale` or
            `temperature`.
        optimizer: Name of the optimizer.
        hyperparameters: Hyperparameters of the optimizer, by key.
        weight_decay: Weight decay λ.
        init_scale: Initial variance σ0².
        label_noise: Fraction of redrawn labels.
        schedule: Schedule, as in `Schedule.text`.
        budget: ("steps", number) or ("epochs", number).
        train_size: Number of training examples before the validation split; None for that of the data set.
    """

    parameterization: str
    width: int
    batch_size: int
    rate: float
    optimizer: str
    hyperparameters: tuple[tuple[str, float], ...]
    weight_decay: float
    init_scale: float
    label_noise: float
    schedule: str
    budget: tuple[str, float]
    train_size: int | None = None


@dataclass(frozen=True)
class Grid:
    """The runs of a spec, with the data and the model that they need.

    Args:
        spec: The checked fields of the spec.
    """

    spec: SpecFields
    _data: dict[tuple[float, int | None], Dataset] = field(default_factory=dict)

    def dataset(self, label_noise: float, train_size: int | None = None) -> Dataset:
        """Return the data with a fraction of redrawn labels. The data is loaded once.

        Args:
            label_noise: The fraction.
            train_size: One of `train_sizes`. Default: the largest.
        """
        key = label_noise, self.train_sizes[-1] if train_size is None else train_size
        if key not in self._data:
            self._data[key] = load_dataset(self.options_at(*key))
        return self._data[key]

    def options_at(self, label_noise: float, train_size: int | None) -> DatasetOptions:
        """Return the options of the data set. The loss says whether targets of 0 and 1 are several labels."""
        options = self.spec.dataset.options(label_noise, train_size)
        several = self.spec.training.loss == "binary_cross_entropy"
        return replace(options, multi_label=True) if several else options

    @property
    def train_sizes(self) -> tuple[int | None, ...]:
        """Sizes of training sets before the validation split, in increasing order. None for that of the data set."""
        return tuple(sorted(self.spec.grid.train_size)) if self.spec.grid.train_size else (None,)

    def datasets(self, label_noise: float) -> list[Dataset]:
        """Return the data with a fraction of redrawn labels at each size of the training set."""
        return [self.dataset(label_noise, size) for size in self.train_sizes]

    def data_options(self, run: Run) -> DatasetOptions:
        """Return the options with which a worker loads the data of a run."""
        return self.options_at(run.label_noise, self._size_of(run))

    def data_of(self, run: Run) -> Dataset:
        """Return the data of a run."""
        return self.dataset(run.label_noise, self._size_of(run))

    def _size_of(self, run: Run) -> int | None:
        """Return which of `train_sizes` leaves as many examples after the validation split as the run has."""
        sizes = {len(self.dataset(run.label_noise, size).x_train): size for size in self.train_sizes}
        return sizes.get(run.train_size)

    @cached_property
    def model(self) -> ModelOptions:
        """Options of the model except its width, with the defaults of its family."""
        return self.spec.model.options(fixed=self.spec.grid.fixed)

    @property
    def factory(self) -> Factory:
        """The factory of the model. With a checkpoint, its modules start from the file's weights."""
        if self.checkpoint is None:
            return family_factory(self.model)
        width, patterns = self.spec.grid.width[0], self.spec.model.reinitialize or ()
        factory = family_factory(self.model)
        return PretrainedFactory(factory, width, self.checkpoint, self._checkpoint_digest, patterns)

    @cached_property
    def checkpoint(self) -> Path | None:
        """The file of weights from which every run starts."""
        path = self.spec.model.checkpoint
        return None if path is None else Path(path).absolute()

    @cached_property
    def _checkpoint_digest(self) -> str:
        return "" if self.checkpoint is None else file_digest(self.checkpoint)

    @property
    def user_code(self) -> tuple[str, ...]:
        """Names of the user's model, data, loss and metric, "package.module:function"."""
        names = (self.model.family, self.spec.dataset.name, self.spec.training.loss, self.spec.fit.metric)
        return tuple(name for name in names if ":" in name)

    @property
    def metric(self) -> str:
        """The name of the metric that is compared, as `METRICS` knows it."""
        return metric_name(self.spec.fit.metric, self.spec.fit.direction)

    def code_at(self, width: int) -> CodeIdentity:
        """Return the identity of the user's code as it is now, with the module of a width."""
        return identify(self.user_code, self.factory, width, self.dataset(self.label_noises[0]))

    @property
    def label_noises(self) -> tuple[float, ...]:
        """All fractions of redrawn labels."""
        return self.spec.grid.label_noise or (self.spec.dataset.label_noise,)

    @property
    def largest_batch(self) -> int:
        """Largest batch size: the size of the training set, or one less if rates follow from a noise scale above 0."""
        examples = min(len(data.x_train) for data in self.datasets(self.label_noises[0]))
        noise_axis = self.spec.grid.rate_axis in ("noise_scale", "normalized_noise_scale")
        return examples - (noise_axis and self.spec.training.sampling != "with_replacement")

    def notes(self) -> list[str]:
        """Return notes for a reader of the results."""
        notes = list(self.dataset(self.label_noises[0]).notes)
        sizes = {*self.spec.grid.batch_size, *(self.spec.stability.batch_size or ())}
        small = sorted(filter(self.model.sized_normalization.falls_back, sizes))
        if small:
            below = f"batch sizes {', '.join(map(str, small))} are below model.ghost_size = {self.model.ghost_size}"
            notes.append(f"{below}: there a batch is normalized as a whole, as with normalization 'batch'")
        return notes

    @cached_property
    def accepted_batches(self) -> AcceptedBatches:
        """The batch sizes that the model accepts at every width.

        Raises:
            BadInput: The model accepts no batch.
        """
        data = self.dataset(self.label_noises[0])
        sizes, shape = self.spec.grid.batch_size, (data.input_shape, data.num_classes)
        accepted = [
            find_accepted_batches(partial(self.factory, width, *shape), data.x_train, sizes)
            for width in self.spec.grid.width
        ]
        return max(accepted, key=lambda batches: batches.smallest)

    def batch_fault(self, batch_size: int) -> str | None:
        """Return the requirement of the model that a batch size violates. None if the model can be trained on it."""
        fault = self.model.sized_normalization.batch_fault(batch_size)
        return fault or self.accepted_batches.fault(batch_size) or self.part_fault(batch_size)

    def part_fault(self, batch_size: int) -> str | None:
        """Return why the gradient of a batch cannot be accumulated over parts of `training.microbatch` examples.

        Batch normalization takes its statistics over what is computed at once. Ghost batches stay whole in a part.
        """
        size = self.spec.training.microbatch
        if size is None or size >= batch_size:
            return None
        for name, ghost_size in self._batch_normalizations.items():
            if ghost_size is None:
                return f"at least the batch size {batch_size}, because {name} normalizes over the batch"
            if batch_size <= ghost_size or size % ghost_size:
                return f"a multiple of the {ghost_size} examples that {name} normalizes together"
        return None

    @cached_property
    def _batch_normalizations(self) -> dict[str, int | None]:
        """The layers that normalize over a batch in training, with the size of their ghost batches."""
        data = self.dataset(self.label_noises[0])
        with seeded(0), contained():
            module = in_mode(self.factory(min(self.spec.grid.width), data.input_shape, data.num_classes), training=True)
        layers = {name or "the module": part for name, part in module.named_modules() if isinstance(part, _BatchNorm)}
        sizes = {name: getattr(part, "ghost_size", None) for name, part in layers.items() if part.training}
        return {**sizes, **dict.fromkeys(other_statistics(module))}

    def can_train_on(self, batch_size: int) -> bool:
        """Return whether the data and the model allow a batch size."""
        return 1 <= batch_size <= self.largest_batch and self.batch_fault(batch_size) is None

    @property
    def size(self) -> int:
        """Number of runs of the grid, without the runs that a sweep adds."""
        return math.prod(map(len, self._axes())) * len(self.spec.seeds)

    def points(self) -> list[Point]:
        """Return all cells of the grid, in the order of its axes."""
        return [Point(*values[:4], *values[4], *values[5:]) for values in product(*self._axes())]

    def _axes(self) -> tuple[Sequence[Any], ...]:
        grid = self.spec.grid
        return (
            grid.parameterization, grid.width, grid.batch_size, getattr(grid, grid.rate_axis), self._optimizers(),
            grid.weight_decay, grid.init_scale, self.label_noises, [schedule.text for schedule in self.schedules],
            self._budgets(), self.train_sizes,
        )  # fmt: skip

    def cell(self, point: Point) -> list[Run]:
        """Return the runs of a cell, one for each seed of the spec."""
        run = self.run(
            parameterization=point.parameterization, width=point.width, batch_size=point.batch_size,
            learning_rate=self._learning_rate(point), optimizer=point.optimizer, weight_decay=point.weight_decay,
            init_scale=point.init_scale, label_noise=point.label_noise, schedule=point.schedule, seed=0,
            data_size=point.train_size, **dict(point.hyperparameters), **self._length(point),
        )  # fmt: skip
        if run.epochs_budget is not None:
            run = replace(run, steps=MovingBatches(run).steps)
        return [replace(run, seed=seed) for seed in self.spec.seeds]

    def runs(self) -> list[Run]:
        """Return all runs of the grid."""
        return [run for point in self.points() for run in self.cell(point)]

    def run(self, data_size: int | None = None, **values: Any) -> Run:
        """Return a run with the given values, and the values of the spec for all other keys.

        Args:
            data_size: One of `train_sizes`. Default: the largest.
            **values: Fields of the run.
        """
        spec, training = self.spec, self.spec.training
        data = self.dataset(values["label_noise"], data_size)
        common = {
            "dataset": spec.dataset.name,
            "dataset_hash": data.hash,
            "train_size": len(data.x_train),
            "test_size": len(data.x_test),
            "validation_fraction": spec.dataset.validation_fraction,
            "data_seed": spec.dataset.data_seed,
            **self.model.run_fields(),
            "nesterov": training.nesterov,
            "decay": training.decay or OPTIMIZERS[values["optimizer"]].decays[0],
            "no_decay": " ".join(training.no_decay),
            "metrics": "" if self.metric in (ACCURACY, LOSS) else self.metric,
            "momentum": 0.0,  # for optimizers without momentum
            "clip_norm": training.clip_norm,
            "microbatch": training.microbatch,
            "checkpoint": self._checkpoint_digest,
            "reinitialize": " ".join(spec.model.reinitialize or ()),
            "augmentation": " ".join(training.augmentation),
            **training.average_fields(),
            **spec.measure.run_fields(),
            "evaluations": training.evaluations,
            "late_fraction": training.late_fraction,
            **training.loss_fields(),
            "sampling": training.sampling,
            "precision": training.precision,
            "batch_statistics": training.batch_statistics,
            "base_width": self._base_width(values["parameterization"]),
            "rate_multipliers": multipliers_text(spec.model.rate_multipliers or {}),
            "query_rows": " ".join(self._query_rows) if values["parameterization"] in WITH_QUERY_ROWS else "",
        }
        return Run(**{**common, **values})

    def _optimizers(self) -> list[tuple[str, tuple[tuple[str, float], ...]]]:
        """Return every optimizer with every combination of its hyperparameters."""
        settings = []
        for name in self.spec.grid.optimizer:
            row = OPTIMIZERS[name]
            lists = [getattr(self.spec.grid, key) or (row.defaults[key],) for key in row.hyperparameters]
            settings += [(name, tuple(zip(row.hyperparameters, values, strict=True))) for values in product(*lists)]
        return settings

    def _budgets(self) -> list[tuple[str, float]]:
        sections = (self.spec.training, self.spec.grid)
        budgets = [(kind, getattr(section, kind)) for section in sections for kind in ("steps", "epochs")]
        kind, amounts = next((kind, amounts) for kind, amounts in budgets if amounts is not None)
        return [(kind, amount) for amount in (amounts if isinstance(amounts, tuple) else (amounts,))]

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """All schedules of the spec."""
        return self.spec.grid.schedule or (self.spec.training.schedule,)

    def _length(self, point: Point) -> dict[str, Any]:
        """Return the fields of a run's budget: its steps, and its epochs if the schedule changes the batch size."""
        kind, amount = point.budget
        epochs = amount
        if kind == "epochs":
            # The last partial batch of an epoch is dropped.
            amount *= len(self.dataset(point.label_noise, point.train_size).x_train) // point.batch_size
        if amount > LARGEST_INTEGER:
            raise BadInput(f"the budget in {kind}", "at most 2^53 steps", point.budget[1])
        batch_changes = kind == "epochs" and parse_schedule(point.schedule).of == "batch_size"
        return {"steps": max(1, round(amount)), "epochs_budget": epochs if batch_changes else None}

    def _learning_rate(self, point: Point) -> float:
        """Return the learning rate ε of a point, from its value on the rate axis."""
        axis, value = self.spec.grid.rate_axis, point.rate
        if axis == "learning_rate":
            return value
        if axis == "normalized_noise_scale":
            ratio = self.noise_ratio(point.parameterization, point.width, point.init_scale)
            axis, value = "noise_scale", value / ratio
        law = OPTIMIZERS[point.optimizer].noise
        assert law is not None  # the spec refuses this axis for an optimizer without a noise law
        train_size = len(self.dataset(point.label_noise, point.train_size).x_train)
        momentum = dict(point.hyperparameters).get("momentum", 0.0)
        replacement = self.spec.training.sampling == "with_replacement"
        return law.rate(axis, value, point.batch_size, train_size, momentum, replacement=replacement)

    @property
    def _query_rows(self) -> tuple[str, ...]:
        family = FAMILIES.get(self.model.family)
        return self.spec.model.query_rows or (() if family is None else family.query_rows)

    def _base_width(self, parameterization: str) -> int | None:
        return self.spec.grid.base_width if parameterization in WITH_BASE_WIDTH else None

    def noise_ratio(self, parameterization: str, width: int, init_scale: float) -> float:
        """Return the ratio ḡ/g of the normalized noise scale of the read-out to the noise scale.

        The ratio is NaN if no fan-in grows with width.

        Args:
            parameterization: Name of the parameterization.
            width: Width of the model.
            init_scale: Initial variance σ0².

        Raises:
            BadInput: The model cannot be built at this width.
        """
        data, widths = self.dataset(self.label_noises[0]), (width, self._base_width(parameterization))
        shape = (data.input_shape, data.num_classes)
        try:
            factors = multipliers_text(self.spec.model.rate_multipliers or {})
            return read_out_ratio(self.factory, parameterization, widths, init_scale, self._query_rows, factors, *shape)
        except (MemoryError, OverflowError, RuntimeError, TypeError) as error:
            line = str(error).splitlines()[0]
            got = " and ".join(str(size) for size in widths if size is not None)
            raise BadInput("grid.width", "widths at which the model can be built", f"{got} ({line})") from error
