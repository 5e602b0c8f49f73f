"""The metrics by which runs are compared. Each has a direction and a value for the best constant predictor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from noisescale.training.losses import LOSSES, check_targets


@dataclass(frozen=True, slots=True)
class Split:
    """One part of the data on the device.

    Args:
        inputs: Inputs, shape [M, …].
        rows: Targets as rows, shape [M, K].
        labels: Class labels, shape [M]. None if the targets are real values.
    """

    inputs: Tensor
    rows: Tensor
    labels: Tensor | None

    def take(self, index: Tensor | slice) -> Split:
        """Return the examples that an index tensor [n] or a slice selects."""
        labels = None if self.labels is None else self.labels[index]
        return Split(self.inputs[index], self.rows[index], labels)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a run on an evaluation set.

    Exactly one of `of_examples` and `of_set` is given.

    Args:
        direction: "max" if larger values are better, "min" if smaller values are better.
        unit: The unit, for tables and figures.
        constant: A function from a split to the metric of the best constant predictor.
        of_examples: A function from outputs [R, M, K] and a split of M examples to values [R, M]. Their mean over
            examples is the metric.
        of_set: A function from outputs [R, M, K] and the whole split to values [R].
        needs_classes: Whether targets must be class labels.
        percent: Whether tables show the metric in percent.
    """

    direction: Literal["max", "min"]
    unit: str
    constant: Callable[[Split], float]
    of_examples: Callable[[Tensor, Split], Tensor] | None = None
    of_set: Callable[[Tensor, Split], Tensor] | None = None
    needs_classes: bool = False
    percent: bool = False

    @property
    def sign(self) -> float:
        """1 if larger values are better, −1 if smaller values are better."""
        return 1.0 if self.direction == "max" else -1.0


def _hits(outputs: Tensor, split: Split) -> Tensor:
    assert split.labels is not None
    return outputs.argmax(-1) == split.labels


def _share_of_largest_class(split: Split) -> float:
    return math.nan if split.labels is None else float(torch.bincount(split.labels).max() / len(split.labels))


ACCURACY, LOSS = "accuracy", "loss"

# The metric "loss" is the loss that a run minimizes. `metrics_of` takes its values and its unit from `LOSSES`.
METRICS: dict[str, Metric] = {
    ACCURACY: Metric("max", "fraction", _share_of_largest_class, of_examples=_hits, needs_classes=True, percent=True),
    LOSS: Metric("min", "nats", lambda split: LOSSES["cross_entropy"].of_constant(split.rows)),
}


def metrics_of(loss: str, names: str = "") -> Mapping[str, Metric]:
    """Return the metrics with which a run is evaluated: its loss, its accuracy and further metrics.

    Args:
        loss: The run's loss, a name in `LOSSES`.
        names: Further names in `METRICS`, separated by spaces.

    Returns:
        The metrics by name, the loss first.
    """
    row = LOSSES[loss]
    of_loss = Metric(
        "min", row.unit, lambda split: row.of_constant(split.rows),
        of_examples=lambda outputs, split: row.per_example(outputs, split.rows),
    )  # fmt: skip
    return {LOSS: of_loss, ACCURACY: METRICS[ACCURACY], **{name: METRICS[name] for name in names.split()}}


def check_metric(metric: str, targets: Tensor) -> None:
    """Refuse a metric that the targets do not allow.

    Raises:
        BadInput: The metric is unknown, or it needs class labels and the targets are real values.
    """
    check_targets("fit.metric", {name: row.needs_classes for name, row in METRICS.items()}, metric, targets)
