"""Checks that the data and the model of a grid allow its batch sizes, schedules, outputs and learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import Any, TypeVar

import torch
from torch import nn

from noisescale.datasets import Dataset
from noisescale.errors import BadInput, one_line
from noisescale.families import FAMILIES, build, converted, family_factory, in_mode
from noisescale.input_shapes import InputShape, NamedShapes, vocabulary_of
from noisescale.measure import INSTRUMENTS, Problem
from noisescale.named_inputs import in_precision, wide
from noisescale.parameterizations import reference_width
from noisescale.seeding import seeded
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.module_checks import check_factory, check_growth, check_later_modules, check_passes
from noisescale.sweeps.objective_checks import check_objective
from noisescale.sweeps.trial_batches import training_error
from noisescale.training import (
    PRECISIONS,
    MovingBatches,
    check_augmentation,
    check_loss,
    check_metric,
    check_metric_of,
    other_statistics,
    parse_schedule,
)
from noisescale.user_code import contained

# Largest number of runs without the user's word. A sweep of a million tiny runs takes days, and is often a mistake.
MOST_RUNS = 10**6

# Number of examples of the passes that check a user's module.
_PASS_EXAMPLES = 16
# Number of examples on which the second derivatives of a module are checked.
_CURVATURE_EXAMPLES = 16

_Result = TypeVar("_Result")


def check_size(grid: Grid, most: int = MOST_RUNS) -> None:
    """Check the number of runs, before the data is loaded or the runs are listed.

    Args:
        grid: The grid.
        most: Largest number of runs.

    Raises:
        BadInput: There are more.
    """
    if grid.size > most:
        raise BadInput("the grid", f"at most {most:,} runs; --max-runs allows more", f"{grid.size:,} runs")


def check_grid(grid: Grid) -> list[str]:
    """Check that the runs of a grid can be trained, before anything is written.

    Args:
        grid: The grid.

    Returns:
        Notes for the user about a module of theirs.

    Raises:
        BadInput: The data or the model cannot be used, a batch size does not fit, a learning rate is not finite, the
            results of a user's module do not follow from the seed, or a curvature is to be measured of a module with a
            wrong second derivative.
    """
    axes, fit = grid.spec.grid, grid.spec.fit
    family_factory(grid.model)  # before the data, which may have to be downloaded
    data = grid.dataset(grid.label_noises[0])
    name = grid.model.family
    if vocabulary_of(data.input_shape) is not None and name in FAMILIES and not FAMILIES[name].takes_tokens:
        raise BadInput("model.family", "'transformer' or a factory of yours, for inputs that are tokens", repr(name))
    check_loss(grid.spec.training.loss, data.y_train)
    check_augmentation(grid.spec.training.augmentation, data.input_shape)
    check_metric(grid.metric, data.y_train, grid.spec.training.loss)
    for name in ("y_train", "y_validation", "y_test"):
        check_metric_of(grid.metric, name, getattr(data, name))
    _check_batches(grid, "grid.batch_size", axes.batch_size, grid.largest_batch)
    _check_batches(grid, "stability.batch_size", grid.spec.stability.batch_size or (), len(data.x_train))
    if fit.select_on == "validation" and not len(data.x_validation):
        required = "above 0, and large enough for one example, where fit.select_on = 'validation'"
        raise BadInput("dataset.validation_fraction", required, grid.spec.dataset.validation_fraction)
    for width, parameterization in product(axes.width, axes.parameterization):
        ratio = grid.noise_ratio(parameterization, width, axes.init_scale[0])
        if axes.rate_axis == "normalized_noise_scale" and math.isnan(ratio):
            required = "a model with a layer whose fan-in grows with width; use noise_scale"
            raise BadInput("grid.normalized_noise_scale", required, f"none at width {width}")
    for width in axes.width:
        _check_outputs(grid, width, data)
    check_objective(grid, data)
    _check_trials(grid, data)
    _check_microbatch(grid)
    notes = _check_module(grid, data) if grid.model.family not in FAMILIES else []
    _check_curvature(grid, data)
    _check_statistics(grid, data)
    _check_moving_batches(grid)
    for point in grid.points():
        if not 0 < grid.cell(point)[0].learning_rate < math.inf:
            key = f"grid.{axes.rate_axis}"
            raise BadInput(key, "values that give finite learning rates above 0", point.rate)
    return notes


def _check_batches(grid: Grid, key: str, sizes: tuple[int, ...], largest: int) -> None:
    for size in sizes:
        if (fault := grid.model.sized_normalization.batch_fault(size)) is not None:
            raise BadInput(key, fault, size)
        if size > largest:
            examples = min(len(data.x_train) for data in grid.datasets(grid.label_noises[0]))
            below = "" if largest == examples else ", or one less if the rate follows from a noise scale"
            raise BadInput(key, f"at most the {examples} training examples{below}", size)


def _check_moving_batches(grid: Grid) -> None:
    """Check that the normalization allows every batch size of the schedules that change the batch size."""
    key = "grid.schedule" if grid.spec.grid.schedule else "training.schedule"
    batch_schedules = [schedule for schedule in grid.schedules if schedule.of == "batch_size"]
    for schedule, size in product(batch_schedules, grid.spec.grid.batch_size):
        if schedule.largest_batch is not None and schedule.largest_batch < size:
            required = f"a largest_batch of at least the first batch size, {size}"
            raise BadInput(key, required, schedule.largest_batch)
    for point in grid.points():
        if parse_schedule(point.schedule).of == "batch_size":
            for size in MovingBatches(grid.cell(point)[0]).sizes:
                if (fault := grid.batch_fault(size)) is not None:
                    raise BadInput(key, f"batches for which the model's normalization has {fault}", size)


def _check_microbatch(grid: Grid) -> None:
    """Check that the gradients of all batch sizes can be accumulated over parts."""
    for size in (*grid.spec.grid.batch_size, *(grid.spec.stability.batch_size or ())):
        if (fault := grid.part_fault(size)) is not None:
            raise BadInput("training.microbatch", fault, grid.spec.training.microbatch)


def _check_outputs(grid: Grid, width: int, data: Dataset) -> None:
    """Check the model on two examples, so that errors of a user's module show before anything else."""
    targets = data.y_train[:1].repeat_interleave(2, 0)
    expected = (*targets.shape[: targets.dim() - targets.is_floating_point()], data.num_classes)
    inputs = wide(data.x_train[:1]).repeat_interleave(2, 0)
    required = f"a module that maps {_batch(data.input_shape)} to {expected}"
    shapes = data.input_shape, data.num_classes
    module = _called(lambda: in_mode(grid.factory(width, *shapes), training=False), required, width)
    outputs = _called(lambda: module(inputs.clone()), required, width)
    got = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else f"a {type(outputs).__name__}"
    # A loss of the user may take any outputs.
    if got != expected and not (":" in grid.spec.training.loss and isinstance(outputs, torch.Tensor)):
        raise BadInput("model.family", f"{required}{_hint(outputs, got, expected)}", f"{got} at width {width}")
    # A new module, because a pass may have left tensors of the other precision in the first.
    module = _called(lambda: in_mode(grid.factory(width, *shapes), training=False), required, width)
    dtype = PRECISIONS[grid.spec.training.precision].dtype
    required = f"a module whose layers all compute in training.precision, {grid.spec.training.precision!r}"
    inputs = in_precision(inputs, dtype)
    _called(lambda: converted(module, dtype)(inputs), required, width)


def _batch(shape: InputShape) -> str:
    if isinstance(shape, NamedShapes):
        return f"one dictionary of {', '.join(map(repr, shape))}, of two examples,"
    return f"a batch of shape (2, {', '.join(map(str, shape))})"


def _hint(outputs: object, got: Any, expected: tuple[int, ...]) -> str:
    """Return what usually helps where outputs are not those that the loss takes."""
    if isinstance(outputs, tuple | list | Mapping) or hasattr(outputs, "__dataclass_fields__"):
        return " (model.outputs selects an entry)"
    if isinstance(got, tuple) and len(expected) == 2 and len(got) == 3 and got[::2] == expected:
        return " (where each example has one label, a transformer needs model.read_out = 'mean')"
    if len(expected) == 3 and got in ((2, 1, expected[2]), (2, expected[2])):
        return " (if it returns every token only with targets, give it any: `EveryToken` in examples/common_models.py)"
    return ""


def _called(call: Callable[[], _Result], required: str, width: int) -> _Result:
    """Call code of a user's module in evaluation, with its errors as errors of the spec."""
    try:
        with torch.no_grad(), seeded(0), contained():
            return call()
    except BadInput:
        raise
    except Exception as error:  # a user's module may raise anything
        raise BadInput("model.family", required, f"{one_line(error)} at width {width}") from error


def _check_module(grid: Grid, data: Dataset) -> list[str]:
    """Check that a user's module grows with width, and that its results follow from the seed of a run."""

    def build_at(width: int, seed: int = 0) -> nn.Module:
        return build(grid.factory, width, data.input_shape, data.num_classes, seed)

    # A few examples are enough, where the module accepts so few.
    fewest = max(grid.accepted_batches.smallest, _PASS_EXAMPLES)
    widths, size = grid.spec.grid.width, min(*grid.spec.grid.batch_size, fewest, len(data.x_train))
    check_growth(build_at, widths)
    smallest, inputs = partial(build_at, min(widths)), wide(data.x_train[:size])
    notes = check_factory(smallest) + check_passes(smallest, inputs, wide(data.x_train[-size:]))
    check_later_modules(smallest, lambda: build_at(reference_width(min(widths))), inputs)
    return notes


def _check_trials(grid: Grid, data: Dataset) -> None:
    """Check that the model can be trained on every batch size of the grid and of the stability ladders."""
    keys = {"grid.batch_size": grid.spec.grid.batch_size, "stability.batch_size": grid.spec.stability.batch_size or ()}
    for key, sizes in keys.items():
        for size in sizes:
            if (fault := grid.accepted_batches.fault(size)) is not None:
                raise BadInput(key, fault, size)
            if grid.model.family in FAMILIES:
                continue
            error = training_error(
                lambda: grid.factory(min(grid.spec.grid.width), data.input_shape, data.num_classes), data.x_train[:size]
            )
            if error is not None:
                required = "batches on which the model can be trained"
                raise BadInput(key, required, f"{size}, at which the model raises {error}")


def _check_curvature(grid: Grid, data: Dataset) -> None:
    """Check the second derivatives of a user's module at its smallest width, if a curvature is measured."""
    measured = [name for name in grid.spec.measure.quantities if INSTRUMENTS[name].curvature]
    if not measured or grid.model.family in FAMILIES:
        return
    inputs = wide(data.x_train[:_CURVATURE_EXAMPLES])
    with seeded(0):
        module = grid.factory(min(grid.spec.grid.width), data.input_shape, data.num_classes)
    try:
        # Its second derivatives contain those of the module, whatever the loss of the study.
        problem = Problem(module, lambda outputs, _: outputs.square().sum(1).mean(), (inputs, torch.zeros(len(inputs))))
    except BadInput:  # e.g. statistics of the batch in evaluation mode, which a sweep can measure
        return
    try:
        problem.check_curvature()
    except BadInput as error:
        required = f"without {' and '.join(measured)}, or a module with {error.required}"
        raise BadInput("measure.quantities", required, error.got) from None


def _check_statistics(grid: Grid, data: Dataset) -> None:
    """Check that the statistics of a user's normalization can be computed over the training set, if they shall be."""
    training = grid.spec.training
    if grid.model.family in FAMILIES or not (training.average or training.batch_statistics == "exact"):
        return
    with seeded(0), contained():
        layers = other_statistics(grid.factory(min(grid.spec.grid.width), data.input_shape, data.num_classes))
    if layers:
        key, required = "training.batch_statistics", "'running', or batch normalization of torch that is not compiled"
        if training.average:
            key, required = "training.average", "false, or batch normalization of torch that is not compiled"
        raise BadInput(key, required, f"other running averages in {', '.join(layers)}")
