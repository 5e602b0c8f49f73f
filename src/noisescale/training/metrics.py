"""The metrics by which runs are compared. Each has a direction and a value for the best constant predictor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from noisescale.errors import BadInput, one_line, unknown_name
from noisescale.named_inputs import wide
from noisescale.training.losses import LOSSES, check_targets
from noisescale.training.objectives import Objective
from noisescale.training.split import Split
from noisescale.user_code import contained, import_named

Direction = Literal["max", "min"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a run on an evaluation set.

    A metric is a function of sums over the set (`sums` and `of_sums`), or of all outputs at once (`of_set`).

    Args:
        direction: "max" if larger values are better, "min" if smaller values are better.
        unit: The unit, for tables and figures.
        constant: A function from a split to the metric of the best constant predictor.
        sums: A function from outputs [R, M, …, K] and a split of M examples to sums over these examples, shape [R, S].
        of_sums: A function from the sums over the set, shape [R, S], to values [R]. By default, the ratio of the first
            sum to the second.
        of_set: A function from outputs [R, M, …, K] and the whole split to values [R].
        needs_classes: Whether targets must be class labels.
        percent: Whether tables show the metric in percent.
        logarithmic: Whether fits use the logarithm of the metric.
        least: Smallest possible value.
        largest: Largest possible value.
    """

    direction: Direction
    unit: str
    constant: Callable[[Split], float]
    sums: Callable[[Tensor, Split], Tensor] | None = None
    of_sums: Callable[[Tensor], Tensor] = lambda sums: sums[:, 0] / sums[:, 1]
    of_set: Callable[[Tensor, Split], Tensor] | None = None
    needs_classes: bool = False
    percent: bool = False
    logarithmic: bool = False
    least: float = -math.inf
    largest: float = math.inf

    @property
    def sign(self) -> float:
        """1 if larger values are better, −1 if smaller values are better."""
        return 1.0 if self.direction == "max" else -1.0


def _predicted(outputs: Tensor, split: Split) -> Tensor:
    return (outputs > 0).long() if split.multi_label else outputs.argmax(-1)


def _labels(split: Split) -> Tensor:
    assert split.labels is not None
    return split.labels


def _counted_sum(values: Tensor, split: Split) -> Tensor:
    """Return the sum of values [R, M, …] over the labels that count, and their number, shape [R, 2]."""
    values = values.double()
    if (counted := split.counted) is None:
        number = torch.full_like(values.flatten(1)[:, 0], values[0].numel())
    else:
        values = values * counted
        number = torch.full_like(values.flatten(1)[:, 0], float(counted.sum()))
    return torch.stack([values.flatten(1).sum(1), number], 1)


def _hits(outputs: Tensor, split: Split) -> Tensor:
    return _counted_sum(_predicted(outputs, split) == _labels(split), split)


def _counted_labels(split: Split) -> Tensor:
    labels, counted = _labels(split), split.counted
    return wide(labels if counted is None else labels[counted])


def _share_of_largest_class(split: Split) -> float:
    if split.labels is None:
        return math.nan
    if split.multi_label:
        share = split.labels.double().mean(0)
        return float(torch.maximum(share, 1 - share).mean())
    labels = _counted_labels(split).flatten()
    return float(torch.bincount(labels).max() / len(labels))


def _confusion(outputs: Tensor, split: Split) -> Tensor:
    """Return the numbers of right predictions, of predictions and of labels by class, shape [R, 3 K], in blocks."""
    predicted, labels = _predicted(outputs, split), wide(_labels(split))
    if split.multi_label:
        parts = [predicted * labels, predicted, labels.expand_as(predicted)]
        return torch.cat([part.double().sum(1) for part in parts], 1)
    classes, counted = outputs.shape[-1], split.counted
    counted = torch.ones_like(labels, dtype=torch.bool) if counted is None else counted
    rows = []
    for guesses in predicted:
        guess, label = guesses[counted], labels[counted]
        parts = [label[guess == label], guess, label]
        rows.append(torch.cat([torch.bincount(part, minlength=classes) for part in parts]).double())
    return torch.stack(rows)


def _recalls(outputs: Tensor, split: Split) -> Tensor:
    """Return the numbers of right predictions and of labels by class, shape [R, 2 C], in two blocks.

    With several labels of an example, each of them has two classes: having it, and not having it.
    """
    right, predicted, labels = _confusion(outputs, split).chunk(3, 1)
    if split.multi_label:
        number = float(outputs.shape[1])
        without = number - predicted - labels + right
        right, labels = torch.cat([right, without], 1), torch.cat([labels, number - labels], 1)
    return torch.cat([right, labels], 1)


def _balanced_accuracy(sums: Tensor) -> Tensor:
    right, labels = sums.chunk(2, 1)
    return (right / labels).nanmean(1)


def _f1_macro(sums: Tensor) -> Tensor:
    right, predicted, labels = sums.chunk(3, 1)
    # A class that is neither a label nor predicted does not count, as in scikit-learn.
    return (2 * right / (predicted + labels)).nanmean(1)


def _constant_balanced(split: Split) -> float:
    if split.labels is None:
        return math.nan
    if split.multi_label:  # each label is right for all examples of one of its two classes
        labels = split.labels.bool()
        return labels.shape[1] / int(labels.any(0).sum() + (~labels).any(0).sum())
    return 1 / len(torch.unique(_counted_labels(split)))


def _constant_f1(split: Split) -> float:
    if split.labels is None:
        return math.nan
    if split.multi_label:
        share = split.labels.double().mean(0)
        return float((2 * share / (1 + share)).mean())
    labels = _counted_labels(split).flatten()
    largest = float(torch.bincount(labels).max() / len(labels))
    return 2 * largest / (1 + largest) / len(torch.unique(labels))


# Share of a sum of squares that may be a rounding error.
_ROUNDING = 1e-12


def _squares(outputs: Tensor, split: Split) -> Tensor:
    """Return the sums of (y − f)², y, y² and 1 for each output, shape [R, 4 K], in four blocks."""
    targets = split.targets.double().expand(outputs.shape)
    parts = [(targets - outputs).square(), targets, targets.square(), torch.ones_like(targets)]
    return torch.cat([part.flatten(1, -2).sum(1) for part in parts], 1)


def _r2(sums: Tensor) -> Tensor:
    residual, total, squares, number = sums.chunk(4, 1)
    spread = squares - total.square() / number
    # An output whose targets are all equal has R² = 1 if it is right and 0 if it is not, as in scikit-learn.
    constant = spread <= _ROUNDING * squares
    of_constant = (residual <= _ROUNDING * squares).to(residual)
    return torch.where(constant, of_constant, 1 - residual / torch.where(constant, 1.0, spread)).mean(1)


def _neg_log_likelihoods(outputs: Tensor, split: Split) -> Tensor:
    labels = wide(_labels(split))
    places = labels if split.counted is None else labels.where(split.counted, 0)
    logs = functional.log_softmax(outputs.double(), -1)
    return _counted_sum(-logs.gather(-1, places.expand(outputs.shape[:-1]).unsqueeze(-1)).squeeze(-1), split)


def _constant_perplexity(split: Split) -> float:
    if split.labels is None or split.multi_label:
        return math.nan
    share = torch.bincount(_counted_labels(split).flatten()).double()
    share = share / share.sum()
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))


ACCURACY, LOSS = "accuracy", "loss"


class _Metrics(dict[str, Metric]):
    """The known metrics by name. The name of a user's metric says its direction, so that a row follows from it."""

    def __missing__(self, name: str) -> Metric:
        if not is_user_metric(name):
            raise KeyError(name)
        direction: Direction = "min" if name.endswith(_MIN) else "max"
        reference = name.removesuffix(_MIN)
        return Metric(
            direction, "value", lambda split: _user_constant(reference, direction, split),
            of_set=lambda outputs, split: _user_values(reference, outputs, split),
        )  # fmt: skip


_MIN = ":min"


def is_user_metric(name: str) -> bool:
    """Return whether a name is that of a user's metric, "package.module:function" or "package.module:function:min"."""
    return ":" in name


def metric_name(metric: str, direction: str | None) -> str:
    """Return the name under which a metric is stored: for a user's metric to minimize, it ends in ":min".

    Args:
        metric: A name in `METRICS`, or "package.module:function".
        direction: "max" or "min" for a user's metric; None for others.
    """
    return metric + _MIN if direction == "min" and is_user_metric(metric) and not metric.endswith(_MIN) else metric


def _user_values(reference: str, outputs: Tensor, split: Split, *, finite: bool = True) -> Tensor:
    """Return the user's metric of each run, shape [R]. Unless told otherwise, it is finite where the outputs are."""
    function = import_named(reference, "fit.metric")
    targets = split.targets if split.labels is None else wide(split.labels)
    values = []
    for outputs_of_run in outputs:
        try:
            with contained():
                returned = function(outputs_of_run.clone(), targets.clone())
            if isinstance(returned, str):
                raise TypeError(f"the text {returned!r}")
            value = float(returned)
            # Outputs of a run that diverges need not have a metric.
            if finite and not math.isfinite(value) and bool(torch.isfinite(outputs_of_run).all()):
                raise ValueError(f"the metric {value} of finite outputs")
            values.append(value)
        except Exception as error:  # a user's function may raise anything
            required = f"a number from {reference} of outputs {list(outputs_of_run.shape)} and targets"
            raise BadInput("fit.metric", required, one_line(error)) from error
    return torch.tensor(values, dtype=torch.float64, device=outputs.device)


def _user_constant(reference: str, direction: Direction, split: Split) -> float:
    """Return the best metric of a constant output, over the mean of the targets or every class.

    It is NaN if no constant output has a metric, as with a correlation.
    """
    if split.labels is None:
        rows = split.targets.double()
        rows = rows.unsqueeze(1) if rows.dim() == 1 else rows
        outputs = rows.mean(0).expand_as(rows).unsqueeze(0)
    elif split.multi_label:
        rows = split.labels.double()
        shares = rows.mean(0)
        candidates = [torch.logit(shares, _SMALL), *(sign * _SURE * torch.ones_like(shares) for sign in (-1, 1))]
        outputs = torch.stack([row.expand_as(rows) for row in candidates])
    else:
        labels = _counted_labels(split).flatten()
        share = torch.bincount(labels, minlength=split.num_classes or 0).double() / len(labels)
        of_classes = torch.eye(len(share), dtype=torch.float64)[share > 0][:_MOST_CLASSES]
        candidates = [share.clamp_min(_SMALL).log(), *of_classes]
        outputs = torch.stack([row.expand(*split.labels.shape, -1) for row in candidates])
    values = _user_values(reference, outputs, split, finite=False)
    values = values[torch.isfinite(values)]
    if not len(values):
        return math.nan
    return float(values.max() if direction == "max" else values.min())


# Smallest probability of a constant prediction, and the logit of one that is sure.
_SMALL, _SURE = 1e-12, 30.0
# Largest number of classes whose constant prediction is tried for a user's metric.
_MOST_CLASSES = 100

# The metric "loss" is the loss that a run minimizes. `metrics_of` takes its values and its unit from the objective.
METRICS: dict[str, Metric] = _Metrics(
    {
        ACCURACY: Metric(
            "max", "fraction", _share_of_largest_class, _hits,
            needs_classes=True, percent=True, least=0.0, largest=1.0,
        ),
        LOSS: Metric("min", "nats", lambda split: LOSSES["cross_entropy"].of_constant(split.targets), least=0.0),
        "balanced_accuracy": Metric(
            "max", "fraction", _constant_balanced, _recalls, _balanced_accuracy,
            needs_classes=True, percent=True, least=0.0, largest=1.0,
        ),
        "f1_macro": Metric(
            "max", "fraction", _constant_f1, _confusion, _f1_macro,
            needs_classes=True, percent=True, least=0.0, largest=1.0,
        ),
        "r2": Metric("max", "R²", lambda split: 0.0, _squares, _r2, largest=1.0),
        "perplexity": Metric(
            "min", "perplexity", _constant_perplexity, _neg_log_likelihoods,
            lambda sums: torch.exp(sums[:, 0] / sums[:, 1]), needs_classes=True, logarithmic=True, least=1.0,
        ),
    }
)  # fmt: skip


def metrics_of(objective: Objective, names: str = "") -> Mapping[str, Metric]:
    """Return the metrics with which a run is evaluated: its loss, its accuracy and further metrics.

    Args:
        objective: What the run minimizes.
        names: Further names in `METRICS`, separated by spaces.

    Returns:
        The metrics by name, the loss first.
    """

    def loss_sums(outputs: Tensor, split: Split) -> Tensor:
        targets = split.targets.expand(len(outputs), *split.targets.shape)
        items, weights = objective.items(outputs, targets), objective.weights(targets)
        total = items[0].numel() if weights is None else weights.flatten(1).sum(1)
        sums = items.flatten(1).sum(1, dtype=torch.float64)
        return torch.stack([sums, torch.zeros_like(sums) + total], 1)

    of_loss = Metric("min", objective.unit, lambda split: objective.of_constant(split.targets), loss_sums)
    return {LOSS: of_loss, ACCURACY: METRICS[ACCURACY], **{name: METRICS[name] for name in names.split()}}


# Metrics that are defined for several labels of an example.
_OF_SEVERAL_LABELS = (ACCURACY, "balanced_accuracy", "f1_macro")


def check_metric(metric: str, targets: Tensor, loss: str = "") -> None:
    """Refuse a metric that the targets do not allow.

    Args:
        metric: Name of the metric.
        targets: The targets.
        loss: Name of the loss. With the binary cross-entropy, targets are labels of 0 and 1.

    Raises:
        BadInput: The metric is unknown, or it needs class labels and the targets are real values, or the reverse.
    """
    if is_user_metric(metric) or (loss == "binary_cross_entropy" and metric in _OF_SEVERAL_LABELS):
        return
    check_targets("fit.metric", {name: row.needs_classes for name, row in METRICS.items()}, metric, targets)
    if metric == "perplexity" and loss not in ("", "cross_entropy"):
        raise BadInput("fit.metric", f"a metric other than 'perplexity' for outputs of the loss {loss!r}", repr(metric))
    if metric == "r2" and not targets.is_floating_point():
        raise BadInput("fit.metric", "a metric of class labels, because targets are class labels", repr(metric))


def check_metric_of(metric: str, name: str, targets: Tensor) -> None:
    """Refuse a set of targets on which a metric is not defined: R² where the targets of every output are all equal.

    Args:
        metric: Name of the metric.
        name: Name of the set, for the message.
        targets: Its targets, shape [M] or [M, K].

    Raises:
        BadInput: The metric is not defined.
    """
    if metric != "r2" or not len(targets):
        return
    if bool((targets == targets[:1]).all()):
        raise BadInput("fit.metric", f"targets {name} that vary, with 'r2'", "equal targets of all examples")


def check_metric_name(metric: str, direction: str | None) -> None:
    """Refuse an unknown metric, a user's metric without a direction, and a direction of a known metric.

    Raises:
        BadInput: One of these.
    """
    if metric not in METRICS and not is_user_metric(metric):
        raise unknown_name("fit.metric", METRICS, metric, ", or 'package.module:function'")
    if is_user_metric(metric) != (direction is not None):
        required = "'max' or 'min' for a metric of yours" if is_user_metric(metric) else "nothing for a known metric"
        raise BadInput("fit.direction", required, repr(direction))
