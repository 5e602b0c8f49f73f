"""From a spec to its runs: the cross product of the grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import product
from typing import Any

import torch

from noisescale.datasets import Dataset, load_dataset
from noisescale.errors import BadInput
from noisescale.families import Factory, ModelOptions, family_factory
from noisescale.parameterizations import WITH_BASE_WIDTH, WITH_QUERY_ROWS, build_table, describe_parameters, layer_rows
from noisescale.runs import Run
from noisescale.sweeps.axes import LARGEST_INTEGER
from noisescale.sweeps.spec_fields import SpecFields
from noisescale.training import (
    ACCURACY,
    LOSS,
    OPTIMIZERS,
    MovingBatches,
    Schedule,
    check_augmentation,
    check_loss,
    check_metric,
    parse_schedule,
)


def reference_width(width: int) -> int:
    """Another width to build the module at, so that growing fan-ins are seen."""
    return 2 * width


@dataclass(frozen=True, slots=True)
class Point:
    """One cell's coordinates along the axes of a grid: its runs differ in nothing but the seed.

    Args:
        rate: The value along the spec's own rate axis, whichever of the four that is.
        hyperparameters: Those of the optimizer, by key.
        schedule: As `Schedule.text` writes it.
        budget: ("steps", number) or ("epochs", number).
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


@dataclass(frozen=True)
class Grid:
    """The runs of a spec, and what is needed to make more runs like them.

    Args:
        spec: The checked spec.

    Raises:
        BadInput: Data or model cannot be used, or a batch lies above the training set; names the key.
    """

    spec: SpecFields
    _data: dict[float, Dataset] = field(default_factory=dict)

    def dataset(self, label_noise: float) -> Dataset:
        """The data at one fraction of label noise, loaded once."""
        if label_noise not in self._data:
            self._data[label_noise] = load_dataset(self.spec.dataset.options(label_noise))
        return self._data[label_noise]

    @cached_property
    def model(self) -> ModelOptions:
        """Everything about the model but its width, with the defaults of its family."""
        return self.spec.model.options()

    @property
    def factory(self) -> Factory:
        return family_factory(self.model)

    @property
    def label_noises(self) -> tuple[float, ...]:
        return self.spec.grid.label_noise or (self.spec.dataset.label_noise,)

    @property
    def largest_batch(self) -> int:
        """The training set; one less where rates follow from the noise scale, which the whole set does not have."""
        examples = len(self.dataset(self.label_noises[0]).x_train)
        noise_axis = self.spec.grid.rate_axis in ("noise_scale", "normalized_noise_scale")
        return examples - (noise_axis and self.spec.training.sampling != "with_replacement")

    def check(self) -> None:
        """Refuse a spec that no run could follow, before anything is written."""
        grid, fit = self.spec.grid, self.spec.fit
        family_factory(self.model)  # before data are loaded, which may take a download
        data = self.dataset(self.label_noises[0])
        check_loss(self.spec.training.loss, data.y_train)
        check_augmentation(self.spec.training.augmentation, data.input_shape)
        check_metric(fit.metric, data.y_train)
        self._check_batches("grid.batch_size", grid.batch_size, self.largest_batch)
        self._check_batches("stability.batch_size", self.spec.stability.batch_size or (), len(data.x_train))
        if fit.select_on == "validation" and not len(data.x_validation):
            required = "above 0, and large enough for one example, where fit.select_on = 'validation'"
            raise BadInput("dataset.validation_fraction", required, self.spec.dataset.validation_fraction)
        for width, parameterization in product(grid.width, grid.parameterization):
            ratio = self._noise_ratio(parameterization, width, grid.init_scale[0])
            if grid.rate_axis == "normalized_noise_scale" and math.isnan(ratio):
                required = "a model with a layer whose fan-in grows with width; use noise_scale"
                raise BadInput("grid.normalized_noise_scale", required, f"none at width {width}")
        for width in grid.width:
            self._check_outputs(width, data)
        self._check_moving_batches()
        for point in self.points():
            if not 0 < self.cell(point)[0].learning_rate < math.inf:
                key = f"grid.{grid.rate_axis}"
                raise BadInput(key, "values that give finite learning rates above 0", point.rate)

    def notes(self) -> list[str]:
        """What a reader of the results must know and no run refuses."""
        sizes = {*self.spec.grid.batch_size, *(self.spec.stability.batch_size or ())}
        small = sorted(filter(self.model.sizes.falls_back, sizes))
        if not small:
            return []
        below = f"batch sizes {', '.join(map(str, small))} are below model.ghost_size = {self.model.ghost_size}"
        return [f"{below}: there a batch is normalized as a whole, as with normalization 'batch'"]

    def can_train_on(self, batch_size: int) -> bool:
        """Whether data and normalization allow this batch size."""
        return 1 <= batch_size <= self.largest_batch and self.model.sizes.batch_fault(batch_size) is None

    def points(self) -> list[Point]:
        """Every cell of the grid, in the order of its axes."""
        grid = self.spec.grid
        axes = (
            grid.parameterization, grid.width, grid.batch_size, getattr(grid, grid.rate_axis), self._optimizers(),
            grid.weight_decay, grid.init_scale, self.label_noises, [schedule.text for schedule in self._schedules],
            self._budgets(),
        )  # fmt: skip
        return [Point(*values[:4], *values[4], *values[5:]) for values in product(*axes)]

    def cell(self, point: Point) -> list[Run]:
        """The runs of one cell, one a seed of the spec."""
        run = self.run(
            parameterization=point.parameterization, width=point.width, batch_size=point.batch_size,
            learning_rate=point.rate, optimizer=point.optimizer, weight_decay=point.weight_decay,
            init_scale=point.init_scale, label_noise=point.label_noise, schedule=point.schedule, seed=0,
            **dict(point.hyperparameters), **self._length(point),
        )  # fmt: skip
        run = replace(run, learning_rate=self._learning_rate(run))
        if run.epochs_budget is not None:
            run = replace(run, steps=MovingBatches(run).steps)
        return [replace(run, seed=seed) for seed in self.spec.seeds]

    def runs(self) -> list[Run]:
        """Every run of the grid."""
        return [run for point in self.points() for run in self.cell(point)]

    def run(self, **values: Any) -> Run:
        """One run with these values and everything else from the spec."""
        spec, training = self.spec, self.spec.training
        data = self.dataset(values["label_noise"])
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
            "metrics": "" if spec.fit.metric in (ACCURACY, LOSS) else spec.fit.metric,
            "momentum": 0.0,
            "clip_norm": training.clip_norm,
            "augmentation": " ".join(training.augmentation),
            "average": training.average,
            **spec.measure.run_fields(),
            "evaluations": training.evaluations,
            "late_fraction": training.late_fraction,
            "loss": training.loss,
            "sampling": training.sampling,
            "precision": training.precision,
            "batch_statistics": training.batch_statistics,
            "base_width": self._base_width(values["parameterization"]),
            "query_rows": " ".join(self._query_rows) if values["parameterization"] in WITH_QUERY_ROWS else "",
        }
        return Run(**{**common, **values})

    def _check_batches(self, key: str, sizes: tuple[int, ...], most: int) -> None:
        for size in sizes:
            if (fault := self.model.sizes.batch_fault(size)) is not None:
                raise BadInput(key, fault, size)
            if size > most:
                examples = len(self.dataset(self.label_noises[0]).x_train)
                below = "" if most == examples else ", and below them where the rate follows from a noise scale"
                raise BadInput(key, f"at most the {examples} training examples{below}", size)

    def _check_moving_batches(self) -> None:
        """A batch that a schedule moves must suit the normalization at every size it comes to."""
        key = "grid.schedule" if self.spec.grid.schedule else "training.schedule"
        moving = [schedule for schedule in self._schedules if schedule.of == "batch_size"]
        for schedule, size in product(moving, self.spec.grid.batch_size):
            if schedule.largest_batch is not None and schedule.largest_batch < size:
                required = f"a largest_batch of at least the batch size it begins with, {size}"
                raise BadInput(key, required, schedule.largest_batch)
        for point in self.points():
            if parse_schedule(point.schedule).of == "batch_size":
                for size in MovingBatches(self.cell(point)[0]).sizes:
                    if (fault := self.model.sizes.batch_fault(size)) is not None:
                        raise BadInput(key, f"batches for which the model's normalization has {fault}", size)

    def _check_outputs(self, width: int, data: Dataset) -> None:
        """Two examples through the model: what is wrong with a module of the user's own then shows before all else."""
        expected = (2, data.num_classes)
        try:
            with torch.no_grad():
                outputs = self.factory(width, data.input_shape, data.num_classes)(
                    data.x_train[:1].repeat_interleave(2, 0)
                )
            got = str(tuple(outputs.shape))
        except Exception as error:  # a user's module may raise anything
            got = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if got != str(expected):
            required = f"a module that maps a batch of shape (2, {', '.join(map(str, data.input_shape))}) to {expected}"
            raise BadInput("model.family", required, f"{got} at width {width}")
        smallest = min(self.spec.grid.batch_size)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                self.factory(width, data.input_shape, data.num_classes).train()(data.x_train[:smallest])
        except Exception as error:  # what evaluates may still not train, e.g. a normalization over one example
            got = f"{smallest}, at which the model raises {type(error).__name__}: {' '.join(str(error).split())}"
            raise BadInput("grid.batch_size", "batches on which the model can be trained", got) from error

    def _optimizers(self) -> list[tuple[str, tuple[tuple[str, float], ...]]]:
        """Every optimizer with every setting of the hyperparameters that it has."""
        settings = []
        for name in self.spec.grid.optimizer:
            row = OPTIMIZERS[name]
            lists = [getattr(self.spec.grid, key) or (row.defaults[key],) for key in row.hyperparameters]
            settings += [(name, tuple(zip(row.hyperparameters, values, strict=True))) for values in product(*lists)]
        return settings

    def _budgets(self) -> list[tuple[str, float]]:
        places = (self.spec.training, self.spec.grid)
        stated = [(kind, getattr(place, kind)) for place in places for kind in ("steps", "epochs")]
        kind, amounts = next((kind, amounts) for kind, amounts in stated if amounts is not None)
        return [(kind, amount) for amount in (amounts if isinstance(amounts, tuple) else (amounts,))]

    @property
    def _schedules(self) -> tuple[Schedule, ...]:
        return self.spec.grid.schedule or (self.spec.training.schedule,)

    def _length(self, point: Point) -> dict[str, Any]:
        """The number of steps; of epochs, where the batch size moves and steps are as many as then fit."""
        kind, amount = point.budget
        epochs = amount
        if kind == "epochs":
            # An epoch is the steps of one pass; its last partial batch is dropped.
            amount *= len(self.dataset(point.label_noise).x_train) // point.batch_size
        if amount > LARGEST_INTEGER:
            raise BadInput(f"the budget in {kind}", "at most 2^53 steps", point.budget[1])
        moves = kind == "epochs" and parse_schedule(point.schedule).of == "batch_size"
        return {"steps": max(1, round(amount)), "epochs_budget": epochs if moves else None}

    def _learning_rate(self, run: Run) -> float:
        axis, value = self.spec.grid.rate_axis, run.learning_rate
        if axis == "learning_rate":
            return value
        if axis == "normalized_noise_scale":
            axis, value = "noise_scale", value / self._noise_ratio(run.parameterization, run.width, run.init_scale)
        law, replacement = OPTIMIZERS[run.optimizer].noise, run.sampling == "with_replacement"
        assert law is not None  # the spec refuses the axis otherwise
        return law.rate(axis, value, run.batch_size, run.train_size, run.momentum, replacement=replacement)

    @property
    def _query_rows(self) -> tuple[str, ...]:
        return self.spec.model.query_rows or ()

    def _base_width(self, parameterization: str) -> int | None:
        return self.spec.grid.base_width if parameterization in WITH_BASE_WIDTH else None

    def _noise_ratio(self, parameterization: str, width: int, init_scale: float) -> float:
        """ḡ/g of the read-out at this width."""
        data, widths = self.dataset(self.label_noises[0]), (width, self._base_width(parameterization))
        shape = (data.input_shape, data.num_classes)
        try:
            return _read_out_ratio(self.model, parameterization, widths, init_scale, self._query_rows, *shape)
        except (MemoryError, OverflowError, RuntimeError, TypeError) as error:
            line = str(error).splitlines()[0]
            got = " and ".join(str(size) for size in widths if size is not None)
            raise BadInput("grid.width", "widths at which the model can be built", f"{got} ({line})") from error


@cache
def _read_out_ratio(
    model: ModelOptions,
    parameterization: str,
    widths: tuple[int, int | None],
    init_scale: float,
    query_rows: tuple[str, ...],
    shape: tuple[int, ...],
    classes: int,
) -> float:
    factory = family_factory(model)
    width, base_width = widths
    # A seed of its own: where the module's own start is kept, the ratio is measured on it, and must be the same again.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, reference = factory(width, shape, classes), factory(reference_width(width), shape, classes)
        base = None if base_width is None else factory(base_width, shape, classes)
    described = describe_parameters(module, reference, base, query_rows)
    table = build_table(parameterization, described, init_scale)
    own = {parameter_name: tensor.detach() for parameter_name, tensor in module.named_parameters()}
    ratios = [row["normalized_noise_scale"] for row in layer_rows(table, own, 1.0) if row["is_reference"]]
    return ratios[0] if ratios else math.nan
