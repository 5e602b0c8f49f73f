"""A check of second derivatives: they must be symmetric, and equal differences of gradients.

An operation may have a second derivative that is wrong and raises no error. In torch 2.13 that is the case for
`torch.nn.utils.parametrizations.weight_norm`, whose Hessian is off by a quarter and not symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families import converted_dtype
from noisescale.measure.problem_checks import lower_precision
from noisescale.named_inputs import mapped

if TYPE_CHECKING:
    from noisescale.measure.problem import Batch, Problem

# Largest number of examples of the check. A wrong derivative of an operation shows in any few examples.
_EXAMPLES = 64

# Number of random directions. The median decides, because in one direction a unit may cross its kink.
_DIRECTIONS = 3

# Length of a step, relative to the weights, in roots of the machine precision: 1e-7 in float64. It is so short that a
# unit rarely crosses a kink.
_STEP = 8

# Rounding error of a gradient, relative to the gradient, in units of the machine precision.
_ROUNDING = 100

_WHERE = "model and loss"


@dataclass(frozen=True)
class _Point:
    """The loss and its gradient at a distance from the weights."""

    loss: float
    gradient: Tensor


@dataclass(frozen=True)
class _Comparison:
    """The product Hv compared with the difference of gradients along v.

    Args:
        product: Hv, shape [P].
        difference: (∇L(θ + hv) − ∇L(θ − hv))/2h, shape [P].
        tolerance: Error of the difference. Where a unit crosses its kink, the quotients for h and 2h differ by as much
            as the difference is wrong, so the tolerance grows and the direction decides nothing.
        jumps: Whether the loss changes as much over the step h as over the step 2h.
    """

    product: Tensor
    difference: Tensor
    tolerance: float
    jumps: bool

    @property
    def deviates(self) -> bool:
        return not float((self.product - self.difference).norm()) <= self.tolerance


def check_second_derivative(problem: Problem) -> None:
    """Check Hessian-vector products on a few examples.

    The check is in float64, also for a model in float32 if a copy in float64 can be evaluated. It needs two products
    and five gradients. If the first direction contradicts, two more are compared, and the median decides.

    Args:
        problem: The problem.

    Raises:
        BadInput: An operation has no second derivative or a wrong one, or the loss jumps at the weights.
    """
    checked, batch = _in_double(problem)
    precision = _precision(checked, batch)
    generator = torch.Generator().manual_seed(0)

    def direction() -> Tensor:
        vector = torch.randn(checked.size, generator=generator, dtype=torch.float64).to(checked.point)
        return nn.functional.normalize(vector, dim=0)

    first = direction()
    comparisons = [_compare(checked, batch, first, precision)]
    if comparisons[0].deviates or comparisons[0].jumps:
        comparisons += [_compare(checked, batch, direction(), precision) for _ in range(_DIRECTIONS - 1)]
        majority = _DIRECTIONS // 2 + 1
        if sum(comparison.jumps for comparison in comparisons) >= majority:
            required = "a loss that is continuous in the weights, for its curvature"
            parameter = _jumping(checked, batch, first, precision)
            raise BadInput(_WHERE, required, f"a loss that jumps if {parameter} moves slightly")
        if sum(comparison.deviates for comparison in comparisons) >= majority:
            raise BadInput(_WHERE, "operations with a correct second derivative", _described(checked, comparisons[0]))
    second = direction()
    along, across = (float(u @ _product(checked, batch, v)) for u, v in ((second, first), (first, second)))
    size = float(comparisons[0].product.norm() + _product(checked, batch, second).norm())
    if not abs(along - across) <= precision**0.5 * size:
        got = f"a Hessian that is not symmetric: u·Hv = {along:.6g} and v·Hu = {across:.6g}"
        raise BadInput(_WHERE, "operations with a correct second derivative", got)


def _in_double(problem: Problem) -> tuple[Problem, Batch]:
    """Return the problem and a few examples in float64, or in its own precision if float64 fails."""
    plain = problem.with_scale(torch.ones_like(problem.point), "module")
    _, (inputs, targets) = next(problem.weighted_batches())
    if problem.mode == "eval":
        counted = problem.relative_weights(targets).nonzero().flatten()[:_EXAMPLES]
        inputs, targets = inputs[counted], targets[counted]
    if problem.point.dtype == torch.float64:
        return plain, (inputs, targets)
    try:
        double = plain.with_precision(torch.float64)
        x, y = mapped(inputs, _to_double), _to_double(targets)
        double.batch_gradient((x, y))
    except Exception:  # a model or a loss with a part that is fixed in float32, or a device without float64
        return plain, (inputs, targets)
    return double, (x, y)


def _to_double(tensor: Tensor) -> Tensor:
    return tensor.to(converted_dtype(tensor, torch.float64))


def _precision(problem: Problem, batch: Batch) -> float:
    """Return the machine precision of the parameters or of the outputs, whichever is coarser."""
    with torch.no_grad():
        outputs = problem.outputs(problem.point, batch[0])
    return torch.finfo(lower_precision([problem.point.dtype, outputs.dtype])).eps


def _compare(problem: Problem, batch: Batch, direction: Tensor, precision: float) -> _Comparison:
    step = _STEP * precision**0.5 * (float(problem.point.norm()) or 1.0)
    center = _at(problem, batch, problem.point)
    near, far = (
        [_at(problem, batch, problem.point + sign * length * direction) for sign in (1, -1)]
        for length in (step, 2 * step)
    )
    difference, wider = (
        (points[0].gradient - points[1].gradient) / (2 * length) for points, length in ((near, step), (far, 2 * step))
    )
    product = _product(problem, batch, direction)
    rounding = _ROUNDING * precision * float(center.gradient.norm()) / step
    size = max(float(difference.norm()), float(product.norm()))
    tolerance = 10 * float((difference - wider).norm()) + rounding + precision**0.5 * size
    return _Comparison(product, difference, tolerance, _jump(center, near, far, precision))


def _jump(center: _Point, near: list[_Point], far: list[_Point], precision: float) -> bool:
    """Return whether the loss jumps: its change does not grow with the step, unlike that of a continuous function."""
    for at, beyond in zip(near, far, strict=True):
        change, wider = at.loss - center.loss, beyond.loss - center.loss
        visible = abs(change) > 1e4 * precision * max(abs(center.loss), abs(beyond.loss))
        if visible and abs(wider - change) < 0.5 * abs(change):
            return True
    return False


def _jumping(problem: Problem, batch: Batch, direction: Tensor, precision: float) -> str:
    """Return the name of the first parameter along which the loss jumps."""
    step = _STEP * precision**0.5 * (float(problem.point.norm()) or 1.0)
    center = _at(problem, batch, problem.point)
    for name, part in problem.unflatten(direction).items():
        parts = {other: torch.zeros_like(tensor) for other, tensor in problem.unflatten(direction).items()}
        alone = torch.cat([tensor.flatten() for tensor in {**parts, name: part}.values()])
        near, far = (
            [_at(problem, batch, problem.point + sign * length * alone) for sign in (1, -1)]
            for length in (step, 2 * step)
        )
        if _jump(center, near, far, precision):
            return name
    return "the weights"


def _described(problem: Problem, comparison: _Comparison) -> str:
    """Describe a wrong product, with the parameter in which it deviates most."""
    deviations = problem.unflatten(comparison.product - comparison.difference)
    worst = max(deviations, key=lambda name: float(deviations[name].norm()))
    product, difference = (
        float(problem.unflatten(vector)[worst].norm()) for vector in (comparison.product, comparison.difference)
    )
    deviation = float(deviations[worst].norm())
    return (
        f"a derivative of the gradient of {worst} with norm {product:.4g} that differs by {deviation:.2g} from the "
        f"difference of gradients, with norm {difference:.4g}"
    )


def _at(problem: Problem, batch: Batch, point: Tensor) -> _Point:
    value, gradient = problem.loss_and_gradient_at(point, batch)
    return _Point(float(value), gradient.detach())


def _product(problem: Problem, batch: Batch, vector: Tensor) -> Tensor:
    return problem.batch_hessian_product(batch, vector)
