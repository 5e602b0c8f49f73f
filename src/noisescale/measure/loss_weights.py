"""The weight of each example in the loss of all data: equal, or as class weights and ignored targets set it.

`torch.nn.CrossEntropyLoss(weight=...)` divides a sum by the sum of the class weights of the batch, and `ignore_index`
divides by the number of valid targets. The loss of all data is then Σ w_i ℓ_i/Σ w_i, where ℓ_i is the loss of an
example alone. Any function of outputs and targets of this form is measured. Its weights are computed from its slopes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import grad_and_value

from noisescale.errors import BadInput
from noisescale.measure.problem_checks import lower_precision
from noisescale.measure.vectorized import vectorized

if TYPE_CHECKING:
    from noisescale.measure.problem import Problem

# Relative deviation from a weighted mean that counts as rounding, or as a constant that a loss adds to avoid a division
# by zero. A result changes by no more than this.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}

# Largest number of elements in the outputs that are kept at once: 32 MiB in float64.
_KEPT_NUMBERS = 2**22

_FORM = (
    "the mean over the batch: over its examples, or over the weights of its examples as torch divides by class weights "
    "or by the number of valid targets"
)

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LossWeights:
    """The weights of examples relative to the weight of one reference example.

    In a batch of the reference r and an example i, the slope of the loss at the outputs of r is w_r/(w_r + w_i) times
    its slope for r alone. So w_i/w_r follows also if the loss of i alone is NaN because its target is ignored.

    Args:
        loss: The loss of outputs and targets.
        outputs: Outputs of the reference, shape [1, …].
        target: Target of the reference, shape [1, …].
        slope: Slope of the loss of the reference alone, shape [1, …].
    """

    loss: Loss
    outputs: Tensor
    target: Tensor
    slope: Tensor

    def of(self, targets: Tensor) -> Tensor:
        """Return the weight of each example, shape [B], in float64.

        Args:
            targets: Targets, shape [B, …].
        """

        def slope_beside(outputs: Tensor, others: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            def loss(reference: Tensor) -> Tensor:
                return self.loss(torch.stack([reference, others]), torch.stack([self.target[0], target]))

            return grad_and_value(loss)(outputs)

        if targets.is_floating_point():  # targets that rarely repeat
            distinct, index = targets, torch.arange(len(targets), device=targets.device)
        else:
            distinct, index = torch.unique(targets, dim=0, return_inverse=True)
        repeated = self.outputs.expand(len(distinct), *self.outputs.shape[1:])
        try:
            slopes, _ = vectorized(slope_beside)(repeated, repeated, distinct)
            weights = self._weight(slopes)
        except RuntimeError:  # an operation that cannot be vectorized
            weights = torch.stack([self.total(target) for target in torch.split(distinct, 1)])
        return weights[index]

    def total(self, targets: Tensor) -> Tensor:
        """Return the sum of the weights of a batch, a number in float64.

        Args:
            targets: Targets, shape [B, …].
        """
        repeated = self.outputs.expand(len(targets), *self.outputs.shape[1:])
        outputs, targets = torch.cat([self.outputs, repeated]), torch.cat([self.target, targets])
        _, slope = _value_and_slope(self.loss, outputs, targets)
        return self._weight(slope[:1])[0]

    def _weight(self, slopes: Tensor) -> Tensor:
        """Return the weights beside the reference, shape [b], from slopes at its outputs, shape [b, …]."""
        alone = self.slope.double().flatten()
        share = slopes.double().reshape(len(slopes), -1) @ alone / alone.square().sum()
        weights = 1 / share - 1
        rounding = 32 * torch.finfo(slopes.dtype).eps
        return torch.where(weights.abs() > rounding, weights, 0.0)  # the weight of an ignored target is exactly 0


def find_weights(problem: Problem) -> tuple[LossWeights, float] | None:
    """Find the weights of the examples, and check that the loss of all data is their weighted mean.

    The slopes of the loss of all data at the outputs, times the Jacobian of the outputs, give the gradient of that
    loss. They must equal w_i/Σw times the slopes of the losses of single examples, and the value must be the weighted
    mean. Data with more outputs than fit into memory are checked in parts, each against the same reference example.

    Args:
        problem: The problem.

    Returns:
        The weights and their sum over the data, or None if all weights are equal.

    Raises:
        BadInput: The loss is not a single number, or is no such mean.
    """
    tolerance, loss = TOLERANCE[problem.point.dtype], problem.loss_of_outputs
    weights: LossWeights | None = None
    parts: list[Tensor] = []
    flat: list[Tensor] = []
    any_counted = False
    for batch_sizes, outputs, targets in _outputs_in_parts(problem):
        tolerance = TOLERANCE[lower_precision([problem.point.dtype, outputs.dtype])]
        value, slope = _checked_loss(loss, outputs, targets)
        single_values, single_slopes = _singles(loss, outputs, targets)
        if weights is None:
            weights = _reference(loss, outputs, targets, single_slopes)
            if weights is None:  # no example of this part has a slope
                counted = torch.isfinite(single_values).double()
                _check_mean(value, slope, counted, single_values, single_slopes, tolerance)
                any_counted = any_counted or bool(counted.any())
                flat.append(targets)
                continue
            _check_repetition(weights, tolerance)
        relative = weights.of(targets)
        if problem.mode == "train" and not all(float(part.sum()) > 0 for part in torch.split(relative, batch_sizes)):
            raise BadInput("data", "batches with an example that the loss counts, for mode 'train'", "a batch of none")
        _check_mean(value, slope, relative, single_values, single_slopes, tolerance)
        parts.append(relative)
    if weights is None and any_counted:
        return None
    relative = torch.cat([*parts, *map(weights.of, flat)]) if weights else torch.zeros(1)
    total = float(relative.sum())
    if weights is None or not total > 0:
        raise BadInput("data", "at least one example that the loss counts", "a loss that ignores all targets")
    return None if bool((relative - 1).abs().max() <= tolerance) else (weights, total)


def _outputs_in_parts(problem: Problem) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield sizes of batches, outputs and targets of as many batches as fit into memory."""
    sizes: list[int] = []
    kept: list[tuple[Tensor, Tensor]] = []
    shapes: set[tuple[torch.Size, torch.Size]] = set()
    with torch.no_grad():
        for inputs, targets in problem.batches():
            outputs = problem.outputs(problem.point, inputs)
            shapes.add((outputs.shape[1:], targets.shape[1:]))
            if len(shapes) > 1:
                required = (
                    "outputs and targets of the same shape in all batches (pad them), because batches are weighted"
                )
                raise BadInput("data", required, " and ".join(str(tuple(shape)) for _, shape in shapes))
            if kept and outputs.numel() * (1 + sum(sizes) / len(outputs)) > _KEPT_NUMBERS:
                yield sizes, *_joined(kept)
                sizes, kept = [], []
            sizes.append(len(targets))
            kept.append((outputs, targets))
    yield sizes, *_joined(kept)


def _joined(kept: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    outputs, targets = zip(*kept, strict=True)
    return torch.cat(outputs), torch.cat(targets)


def _checked_loss(loss: Loss, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the loss of a batch and its slope, or refuse a function that is no loss."""
    try:
        value = loss(outputs, targets)
    except BadInput:
        raise
    except Exception as error:  # the user's loss may raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BadInput("loss", "a loss of the model's outputs and the targets", lines[0]) from None
    if not isinstance(value, Tensor) or value.dim():
        shape = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise BadInput("loss", "one number, the mean over the batch", shape)
    return _value_and_slope(loss, outputs, targets)


def _value_and_slope(loss: Loss, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the loss of a batch and its slope at the outputs, which is zero if it does not depend on them."""
    leaf = outputs.detach().requires_grad_()
    with torch.enable_grad():
        value = loss(leaf, targets)
        if not value.requires_grad:
            return value, torch.zeros_like(outputs)
        (slope,) = torch.autograd.grad(value, leaf, materialize_grads=True)
    return value.detach(), slope


def _singles(loss: Loss, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the losses of single examples, shape [B], and their slopes, shape [B, …]."""

    def single(output: Tensor, target: Tensor) -> Tensor:
        return loss(output.unsqueeze(0), target.unsqueeze(0))

    try:
        slopes, values = vectorized(grad_and_value(single))(outputs, targets)
    except RuntimeError:  # an operation that cannot be vectorized
        rows = [_value_and_slope(loss, outputs[k : k + 1], targets[k : k + 1]) for k in range(len(outputs))]
        values, slopes = torch.stack([value for value, _ in rows]), torch.cat([slope for _, slope in rows])
    return values, slopes


def _reference(loss: Loss, outputs: Tensor, targets: Tensor, slopes: Tensor) -> LossWeights | None:
    """Return weights relative to the example with the largest slope, or None if no slope differs from zero.

    A trained model has small slopes, which consist of rounding errors. So the outputs of another example count too.
    """
    shifted = outputs.roll(len(outputs) // 2, 0)
    candidates = [(outputs, slopes), (shifted, _singles(loss, shifted, targets)[1])]
    best: LossWeights | None = None
    largest = 0.0
    for points, point_slopes in candidates:
        rows = point_slopes.double().reshape(len(outputs), -1)
        norms = torch.linalg.vector_norm(rows, dim=1).nan_to_num(0.0, 0.0, 0.0)
        place = int(norms.argmax())
        if float(norms[place]) > largest:
            part, largest = slice(place, place + 1), float(norms[place])
            best = LossWeights(loss, points[part], targets[part], point_slopes[part])
    return best


def _check_repetition(weights: LossWeights, tolerance: float) -> None:
    """Check that the reference example beside itself has its own weight. In a sum, it has none."""
    if abs(float(weights.total(weights.target)) - 1) <= tolerance:
        return
    with torch.no_grad():
        once, twice = (
            float(weights.loss(*(torch.cat([part] * count) for part in (weights.outputs, weights.target))))
            for count in (1, 2)
        )
    got = f"{once:.4g} for an example and {twice:.4g} for the same example twice (a sum?)"
    raise BadInput("loss", "the mean over the batch", got)


def _check_mean(
    value: Tensor, slope: Tensor, weights: Tensor, values: Tensor, slopes: Tensor, tolerance: float
) -> None:
    """Check that a loss and its slopes are weighted means of the losses of single examples and of their slopes."""
    total, counted = weights.sum(), weights != 0
    if not bool(counted.any()):
        return
    weights = weights / total
    terms = torch.where(counted, weights * values.double(), 0.0)
    rows = counted.view(-1, *(1,) * (slopes.dim() - 1))
    parts = torch.where(rows, weights.view_as(rows) * slopes.double(), 0.0)
    deviation, largest = (slope.double() - parts).abs().max(), slope.double().abs().max()
    mean = terms.sum()
    if not (value.double() - mean).abs() <= tolerance * terms.abs().sum() + 1e-12:
        got = f"{float(value):.4g} for all examples, and {float(mean):.4g} as the mean of their losses"
        raise BadInput("loss", _FORM, got)
    if not deviation <= tolerance * largest + 1e-300:
        got = f"a gradient that differs from the mean of the examples' gradients by {float(deviation / largest):.2g}"
        raise BadInput("loss", _FORM, got)
