"""Checks of the loss and the metric on a few examples, before anything is written."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noisescale.datasets import Dataset
from noisescale.errors import BadInput, one_line
from noisescale.families import in_mode
from noisescale.named_inputs import wide
from noisescale.runs import Run
from noisescale.seeding import seeded
from noisescale.sweeps.grid import Grid
from noisescale.training import METRICS, Objective, Split, UserObjective, objective_of
from noisescale.user_code import contained

# Number of examples on which a loss and a metric of the user are tried.
_EXAMPLES = 8


def check_objective(grid: Grid, data: Dataset) -> None:
    """Check that the loss has a value for every example, and that the metric is a number.

    Args:
        grid: The grid.
        data: Its data.

    Raises:
        BadInput: A class has no example, from which its weight would follow, every target is ignored, a function of the
            user raises an error, returns something else or draws random numbers, or the metric is not finite.
    """
    run = grid.cell(grid.points()[0])[0]
    for size in grid.train_sizes:  # of fewer examples, a class or every label may be missing
        part = grid.dataset(run.label_noise, size)
        for name in ("y_train", "y_validation", "y_test"):
            _check_ignored(run, name, getattr(part, name))
        objective = objective_of(run, part)  # in the end that of all examples, because sizes increase
    if not isinstance(objective, UserObjective) and ":" not in grid.metric:
        return
    module = grid.factory(run.width, data.input_shape, data.num_classes)
    inputs = wide(data.x_train[:_EXAMPLES])
    targets = wide(objective.encoded(data.y_train[:_EXAMPLES], data.num_classes, torch.float32))
    with torch.no_grad(), seeded(0), contained():
        outputs = in_mode(module, training=False)(inputs.clone())
    if isinstance(objective, UserObjective):
        _check_loss(run, objective, outputs, targets)
    if ":" in grid.metric:
        _check_metric(grid.metric, run, outputs, data, objective)


def _check_ignored(run: Run, name: str, labels: Tensor) -> None:
    """Check that every label which is no class is the ignored one, and that some labels are not ignored."""
    if labels.is_floating_point() or not len(labels):
        return
    hidden = (labels < 0) if run.ignore_index is None else (labels < 0) & (labels != run.ignore_index)
    if bool(hidden.any()):
        got, mark = "none" if run.ignore_index is None else run.ignore_index, int(labels[hidden].min())
        if ":" in run.loss:
            required = f"'cross_entropy' with training.ignore_index = {mark}, because {name} has this negative label"
            raise BadInput("training.loss", required, repr(run.loss))
        raise BadInput("training.ignore_index", f"{mark}, because {name} has this negative label", got)
    if run.ignore_index is not None and not bool((labels != run.ignore_index).any()):
        raise BadInput("training.ignore_index", f"a label that leaves some targets of {name}", f"{run.ignore_index}")


def _check_loss(run: Run, objective: Objective, outputs: Tensor, targets: Tensor) -> None:
    expected = tuple(targets.shape[: 1 if targets.is_floating_point() else None])
    required = f"a function of outputs {list(outputs.shape)} and targets {list(targets.shape)} to values {expected}"
    values = [_values(objective, outputs, targets, required, seed) for seed in (0, 1)]
    for value in values:
        got = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        if got != expected:
            raise BadInput("training.loss", required, got)
    if not bool(torch.isfinite(values[0]).all()):
        raise BadInput("training.loss", "finite values for a new model", values[0].flatten().tolist())
    if not torch.equal(*values):
        raise BadInput(
            "training.loss", "a function of the outputs and the targets alone", "other values at a second call"
        )
    leaf = outputs.clone().requires_grad_()
    with torch.enable_grad(), contained():
        loss = objective.of_run(leaf, targets)
    if not loss.requires_grad:
        raise BadInput("training.loss", "a function with a gradient in the outputs", "values without one")


def _values(objective: Objective, outputs: Tensor, targets: Tensor, required: str, seed: int) -> Tensor:
    try:
        with torch.no_grad(), seeded(seed), contained():
            return objective.items(outputs.clone().unsqueeze(0), targets.clone().unsqueeze(0))[0]
    except Exception as error:  # a user's function may raise anything
        raise BadInput("training.loss", required, one_line(error)) from error


def _check_metric(name: str, run: Run, outputs: Tensor, data: Dataset, objective: Objective) -> None:
    labels = data.y_train[:_EXAMPLES]
    targets = objective.encoded(labels, data.num_classes, torch.float32)
    multi_label = run.loss == "binary_cross_entropy"
    classes = targets.long() if multi_label else None if labels.is_floating_point() else labels
    split = Split(data.x_train[:_EXAMPLES], targets, classes, run.ignore_index, multi_label, data.num_classes)
    metric = METRICS[name]
    assert metric.of_set is not None
    value = float(metric.of_set(outputs.unsqueeze(0), split)[0])
    if not math.isfinite(value):
        raise BadInput("fit.metric", f"a finite number from {name}", value)
    # Also on the outputs of a constant predictor, it must not raise an error.
    metric.constant(split)
