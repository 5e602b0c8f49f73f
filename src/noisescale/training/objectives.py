"""What runs minimize: the weighted mean of the losses of the items of a batch.

L = Σ_i w_i ℓ_i / Σ_i w_i over the examples of a batch or, where every token has a target, over its tokens.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional

from noisescale.datasets import HIDDEN, Dataset
from noisescale.errors import BadInput
from noisescale.runs import Run
from noisescale.training.losses import LOSSES, USER_LOSS_UNIT, Loss, OfExample, minimum_of_constant, target_rows
from noisescale.user_code import import_named

BALANCED = "balanced"
# Largest number of examples from which the loss of the best constant output is computed for a loss of the user.
_CONSTANT_EXAMPLES = 4096


class Objective(ABC):
    """The loss of a batch. Every function computes R runs at once, with the run as the first axis."""

    unit = USER_LOSS_UNIT

    @abstractmethod
    def encoded(self, targets: Tensor, num_outputs: int, dtype: torch.dtype) -> Tensor:
        """Return the targets of a data set in the form that the other functions take."""

    @abstractmethod
    def items(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return w_i ℓ_i, shape [R, B] or [R, B, T], from outputs [R, B, …, K]."""

    def weights(self, targets: Tensor) -> Tensor | None:
        """Return w_i, shape [R, B] or [R, B, T]; None if every weight is 1."""
        return None

    def of_runs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss L of each run's batch, shape [R]."""
        items, weights = self.items(outputs, targets), self.weights(targets)
        if weights is None:
            return items.flatten(1).mean(1)
        return items.flatten(1).sum(1) / _positive(weights.flatten(1).sum(1)).to(items.dtype)

    def of_run(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss L of the batch of one run, without a run axis."""
        return self.of_runs(outputs.unsqueeze(0), targets.unsqueeze(0)).squeeze(0)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ∂L/∂outputs of each run, shape [R, B, …, K]."""
        gradient: Tensor = grad(lambda outputs: self.of_runs(outputs, targets).sum())(outputs)
        return gradient

    def share(self, part: Tensor, whole: Tensor) -> Tensor | float:
        """Return the weight of a part of each batch in the whole batch, shape [R] or a number.

        Args:
            part: Targets of the part, shape [R, b, …].
            whole: Targets of the whole batch, shape [R, B, …].
        """
        weights, of_whole = self.weights(part), self.weights(whole)
        if weights is None or of_whole is None:
            return part.shape[1] / whole.shape[1]
        return weights.flatten(1).sum(1) / _positive(of_whole.flatten(1).sum(1))

    def per_example(self, targets: Tensor) -> OfExample:
        """Return a function from outputs [..., K] of one run or several and their targets to losses of examples.

        The mean of these losses over all examples of a set is the loss of the set.

        Args:
            targets: Targets of all examples of the set, shape [N, …].
        """
        weights = self.weights(targets.unsqueeze(0))
        per_token = targets.dim() > 1 and not targets.is_floating_point()
        scale = 1.0 if weights is None else 1 / float(_positive(weights.double().mean()))

        def of_examples(outputs: Tensor, targets: Tensor) -> Tensor:
            items = self.items(outputs.unsqueeze(0), targets.unsqueeze(0)).squeeze(0)
            return (items.mean(-1) if per_token else items) * scale

        return of_examples

    @abstractmethod
    def of_constant(self, targets: Tensor) -> float:
        """Return the loss of the best constant output on encoded targets [N, …]."""


def _positive(total: Tensor) -> Tensor:
    """Return a sum of weights, with 1 in place of 0: a batch whose weights are all 0 has the loss 0."""
    return torch.where(total > 0, total, torch.ones_like(total))


class RowObjective(Objective):
    """The mean over examples of a loss in `LOSSES`. Targets are rows [N, K], one-hot for class labels.

    Args:
        loss: The loss per example.
    """

    def __init__(self, loss: Loss) -> None:
        self._loss, self.unit = loss, loss.unit

    def encoded(self, targets: Tensor, num_outputs: int, dtype: torch.dtype) -> Tensor:
        return target_rows(targets, num_outputs, dtype)

    def items(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._loss.per_example(outputs, targets)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._loss.gradient(outputs, targets).div_(outputs.shape[1])

    def of_constant(self, targets: Tensor) -> float:
        return self._loss.of_constant(targets)


class LabelObjective(Objective):
    """Cross-entropy of class labels [N] or [N, T] with class weights, label smoothing and ignored targets.

    It equals `torch.nn.CrossEntropyLoss` over all items of the batch.

    Args:
        class_weights: Weight of each class, shape [K]; None for equal weights.
        label_smoothing: Share of each target that is spread evenly over the classes.
        ignore_index: Label of the targets that do not count; None if all count.
    """

    unit = "nats"

    def __init__(self, class_weights: Tensor | None, label_smoothing: float, ignore_index: int | None) -> None:
        self._class_weights, self._smoothing = class_weights, label_smoothing
        self._ignored = HIDDEN if ignore_index is None else ignore_index
        self._counts_all = class_weights is None and ignore_index is None

    def encoded(self, targets: Tensor, num_outputs: int, dtype: torch.dtype) -> Tensor:
        return targets

    def items(self, outputs: Tensor, targets: Tensor) -> Tensor:
        weights = None if self._class_weights is None else self._class_weights.to(outputs)
        labels = targets.long().expand(outputs.shape[:-1])
        losses = functional.cross_entropy(
            outputs.flatten(0, -2), labels.flatten(), weights, ignore_index=self._ignored, reduction="none",
            label_smoothing=self._smoothing,
        )  # fmt: skip
        return losses.view(labels.shape)

    def weights(self, targets: Tensor) -> Tensor | None:
        if self._counts_all:
            return None
        counted = targets != self._ignored
        if self._class_weights is None:
            return counted.double()
        weights = self._class_weights.to(targets.device)[targets.long().where(counted, 0)]
        return weights * counted

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self._class_weights is not None or self._smoothing:
            return super().gradient(outputs, targets)
        labels = targets.long()
        counted = None if self._counts_all else labels != self._ignored
        places = labels if counted is None else labels.where(counted, 0)
        gradient = torch.softmax(outputs, -1)
        gradient.scatter_add_(-1, places.unsqueeze(-1), gradient.new_full((1,), -1.0).expand(*labels.shape, 1))
        if counted is None:
            return gradient.div_(labels[0].numel())
        totals = _positive(counted.flatten(1).sum(1)).view(len(outputs), *[1] * (outputs.dim() - 1))
        return gradient.mul_(counted.unsqueeze(-1)).div_(totals)

    def of_constant(self, targets: Tensor) -> float:
        counted = targets[targets != self._ignored].long()
        classes = 0 if self._class_weights is None else len(self._class_weights)
        counts = torch.bincount(counted.flatten().cpu(), minlength=classes).double()
        weights = torch.ones_like(counts) if self._class_weights is None else self._class_weights.double().cpu()
        # The best probabilities are proportional to the sum of the smoothed and weighted targets.
        sums = (1 - self._smoothing) * counts * weights + self._smoothing / len(counts) * weights * counts.sum()
        return float(-torch.special.xlogy(sums, sums / sums.sum()).sum() / (counts * weights).sum())


class UserObjective(Objective):
    """The mean of the values that a function of the user returns for each example or token.

    Args:
        function: A function from the outputs [B, …, K] and the targets of one batch to values [B] or [B, T].
        num_outputs: K.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], num_outputs: int) -> None:
        self._function, self._num_outputs = function, num_outputs

    def encoded(self, targets: Tensor, num_outputs: int, dtype: torch.dtype) -> Tensor:
        return targets.to(dtype) if targets.is_floating_point() else targets

    def items(self, outputs: Tensor, targets: Tensor) -> Tensor:
        targets = targets if targets.is_floating_point() else targets.long()
        if len(outputs) == 1:  # so that one run may use operations that vmap refuses
            return self._function(outputs[0], targets[0]).unsqueeze(0)
        return vmap(self._function)(outputs, targets)

    def per_example(self, targets: Tensor) -> OfExample:
        per_token, axes = targets.dim() > 1 and not targets.is_floating_point(), targets.dim()

        def of_examples(outputs: Tensor, targets: Tensor) -> Tensor:
            if targets.dim() > axes:  # several runs, with operations that `vmap` may refuse
                return torch.stack([of_examples(*run) for run in zip(outputs, targets, strict=True)])
            items = self._function(outputs, targets if targets.is_floating_point() else targets.long())
            return items.mean(-1) if per_token else items

        return of_examples

    def of_constant(self, targets: Tensor) -> float:
        some = targets[:_CONSTANT_EXAMPLES]
        if some.is_floating_point():
            return minimum_of_constant(self._function, some.double(), some.double().mean(0))
        first = torch.zeros(self._num_outputs, dtype=torch.float64)
        return minimum_of_constant(self._function, some.long(), first)


def objective_of(run: Run, dataset: Dataset) -> Objective:
    """Return what a run minimizes.

    Args:
        run: The run.
        dataset: Its data. Balanced class weights follow from the labels of the training set.

    Raises:
        BadInput: A class has no training example, from which its weight would follow, or the number of weights is not
            that of the classes, or the ignored index hides every target.
    """
    if ":" in run.loss:
        return UserObjective(import_named(run.loss, "training.loss"), dataset.num_classes)
    labels = dataset.y_train
    plain = not run.class_weights and not run.label_smoothing and run.ignore_index is None
    if run.loss != "cross_entropy" or labels.is_floating_point() or (plain and labels.dim() == 1):
        return RowObjective(LOSSES[run.loss])
    if run.ignore_index is not None and not bool((labels != run.ignore_index).any()):
        raise BadInput("training.ignore_index", "a label that leaves some targets", f"{run.ignore_index}, which is all")
    weights = class_weights(run.class_weights, labels, dataset.num_classes, run.ignore_index)
    return LabelObjective(weights, run.label_smoothing, run.ignore_index)


def class_weights(text: str, labels: Tensor, num_classes: int, ignore_index: int | None = None) -> Tensor | None:
    """Return the weight of each class, shape [K], in float64; None for equal weights.

    Balanced weights are n/(K n_c) for n labels of K classes that count, of which n_c are of class c.

    Args:
        text: "balanced", a list of numbers as JSON, or nothing.
        labels: Labels of the training set.
        num_classes: K.
        ignore_index: Label of the targets that do not count.

    Raises:
        BadInput: A class has no example, or the number of weights is not K.
    """
    if not text:
        return None
    if text != BALANCED:
        weights = torch.tensor(json.loads(text), dtype=torch.float64)
        if len(weights) != num_classes:
            raise BadInput("training.class_weights", f"a weight for each of the {num_classes} classes", len(weights))
        return weights
    counted = labels if ignore_index is None else labels[labels != ignore_index]
    counts = torch.bincount(counted.flatten().long(), minlength=num_classes).double()
    needed = torch.ones_like(counts, dtype=torch.bool)
    if ignore_index is not None and 0 <= ignore_index < num_classes:
        needed[ignore_index] = False
    if not bool(counts[needed].all()):
        required = f"{BALANCED!r} only if every class has a training example"
        missing = int((needed & (counts == 0)).nonzero()[0])
        raise BadInput("training.class_weights", required, f"none of class {missing}")
    weights = counted.numel() / (needed.sum() * counts)
    # The weight of a class that does not count is never used.
    return weights.where(needed, 1.0)
