"""Gradient noise: tr Σ, |G|² and their ratio, with confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from noisescale.errors import BadInput
from noisescale.estimate import CONFIDENCE, Estimate, exact, with_t_interval
from noisescale.measure.instrument import instrument
from noisescale.measure.problem import Batch, Problem

# Number of examples in the Gram matrix from which tr Σ² is estimated. This estimate corrects the jackknife and bounds
# the variance of |G|² from below. A subset of the examples is enough for it.
_GRAM_EXAMPLES = 512

# Largest number of elements in the gradients of these examples: half a GiB in float64.
_GRAM_NUMBERS = 2**26

# Largest number of elements in the per-example gradients that are kept for the second pass: 1 GiB in float64. A larger
# problem computes the gradients twice.
_KEPT_NUMBERS = 2**27


@dataclass(frozen=True)
class GradientNoise:
    """Gradient noise with its error.

    Args:
        trace_covariance: Trace of the covariance Σ of per-example gradients, tr Σ.
        gradient_norm_squared: Squared norm |G|² of the mean gradient of the population.
        gradient_noise_scale: The ratio tr Σ/|G|², in examples.
        examples: Number n of examples.
        population: Size N of the population. `math.inf` for fresh data.
        coordinates: Coordinates of gradients and Hessians, "module" or "optimizer".
        gradients: Number of gradients computed.
        status: "exact", "ok", or a sentence that says what to change.
    """

    trace_covariance: Estimate
    gradient_norm_squared: Estimate
    gradient_noise_scale: Estimate
    examples: int
    population: float
    coordinates: str
    gradients: int
    status: str


@instrument
def gradient_noise(problem: Problem, population: float | None = None) -> GradientNoise:
    """Measure tr Σ = Σ‖g_i − ḡ‖²/(n − 1), |G|² = ‖ḡ‖² − (1 − n/N) tr Σ/n, and tr Σ/|G|².

    Args:
        problem: The problem, or a model, a loss and data, in mode "eval", with at least two examples. In training mode,
            the gradient of an example may depend on its batch; use `batch_gradient_noise` there.
        population: Size N of the population. If N is a whole number above n, the data are a random subset of N
            examples. If N is `math.inf`, the data are fresh, i.e. were not used for training. None for the population
            of the problem. If the problem has no population either, the data are the whole population (the training set
            of a run), and the result is exact.

    Returns:
        The three numbers. The interval of the ratio comes from Fieller's method, the other two intervals come from the
        delete-one jackknife. The upper end of the ratio is infinite if |G|² may be 0.

    Raises:
        BadInput: `Problem` refuses the input, there are fewer than two examples, or N is below the number of examples.

    Source:
        McCandlish, Kaplan, Amodei 2018, section 2.2, for the quantities; Fieller 1954, for the interval of the ratio;
        Efron, Stein 1981, for the jackknife, which doubles the degenerate part of the variance of a U-statistic.
    """
    population = problem.population if population is None else population
    size = _population(population, problem.examples)
    rows = _gram_rows(problem)
    keep = problem.examples * problem.size <= _KEPT_NUMBERS
    stored = [part.double() for part in problem.per_example_gradients()] if keep else None
    mean = _mean(problem, stored)
    squares, along, computed = [], [], problem.examples
    gram_gradients: list[Tensor] = []
    for part in stored if stored is not None else problem.per_example_gradients():
        gradients = part.double()
        squares.append(gradients.square().sum(1))
        along.append(gradients @ mean)
        if sum(map(len, gram_gradients)) < rows:
            gram_gradients.append(gradients[: rows - sum(map(len, gram_gradients))].clone())
    computed += 0 if keep else problem.examples
    moments = Moments(torch.cat(squares).cpu().numpy(), torch.cat(along).cpu().numpy(), float(mean @ mean))
    gram_rows = torch.cat(gram_gradients)
    return noise_of_moments(moments, gram_rows @ gram_rows.T, size, problem.coordinates, computed, 1)


@partial(instrument, mode="train")
def batch_gradient_noise(problem: Problem, population: float | None = None) -> GradientNoise:
    """Measure the gradient noise from the gradients g_b of n batches of B examples.

    tr Σ = B·Σ‖g_b − ḡ‖²/(n − 1) and |G|² = ‖ḡ‖² − (1 − nB/N) tr Σ/(nB).

    Use this function if per-example gradients do not exist or cost too much. With batch normalization in training mode,
    the gradient of an example depends on its batch, and Σ/B is the covariance of the gradient of a batch.

    Args:
        problem: The problem, or a model, a loss and batches (in mode "train" by default), with at least two batches of
            equal size. An estimate of the error needs at least three.
        population: Size N of the population. The batches are disjoint random parts of it. None takes the population of
            the problem; if the problem has none, the data count as fresh (N = `math.inf`).

    Returns:
        The three numbers, as in `gradient_noise`.

    Raises:
        BadInput: `Problem` refuses the input, there are fewer than two batches, batches have different sizes, or N is
            below the number of examples.

    Source:
        McCandlish, Kaplan, Amodei 2018, appendix A.1, which compares two batch sizes, here one batch and all batches.
    """
    given = problem.population if population is None else population
    population = math.inf if given is None else given
    size = _population(population, problem.examples)
    sizes = [len(inputs) for inputs, _ in problem.batches()]
    if len(sizes) < 2 or len(set(sizes)) > 1:
        raise BadInput("batches", "at least two, of equal size", f"sizes {sizes[:5]}")
    # Their mean is the gradient of the loss, also if batches have different weights in it.
    gradients = torch.stack([_weighted_gradient(problem, batch, len(sizes)) for batch in problem.batches()])
    mean = gradients.mean(0)
    moments = Moments(gradients.square().sum(1).cpu().numpy(), (gradients @ mean).cpu().numpy(), float(mean @ mean))
    rows = gradients[:_GRAM_EXAMPLES]
    return noise_of_moments(moments, rows @ rows.T, size, problem.coordinates, len(sizes), sizes[0])


def _weighted_gradient(problem: Problem, batch: Batch, batches: int) -> Tensor:
    """Return the gradient of a batch times its share of the loss over its mean share, in float64."""
    factor = problem.share(batch) * batches
    if not factor:
        return torch.zeros_like(problem.point, dtype=torch.float64)
    return problem.batch_gradient(batch).double() * factor


@dataclass(frozen=True)
class Moments:
    """Moments of n gradients from which their noise is computed.

    Args:
        squares: Squared norms ‖g_i‖² of the gradients, shape [n].
        along: Inner products ⟨g_i, ḡ⟩ with the mean gradient ḡ, shape [n].
        mean_square: Squared norm ‖ḡ‖² of the mean gradient.
    """

    squares: NDArray[np.float64]
    along: NDArray[np.float64]
    mean_square: float


def _population(population: float | None, examples: int) -> float:
    if examples < 2:
        raise BadInput("data", "at least two examples", examples)
    if population is None:
        return float(examples)
    number = isinstance(population, int | float) and not isinstance(population, bool)
    if number and math.isinf(population) and population > 0:
        return math.inf
    if not (number and float(population).is_integer() and population >= examples):
        required = f"None, math.inf, or a whole number of at least the {examples} examples given"
        raise BadInput("population", required, population)
    return float(population)


def _mean(problem: Problem, stored: list[Tensor] | None) -> Tensor:
    total = torch.zeros(problem.size, dtype=torch.float64, device=problem.point.device)
    for part in stored if stored is not None else problem.per_example_gradients():
        total += part.double().sum(0)
    return total / problem.examples


def noise_of_moments(
    moments: Moments, gram: Tensor, population: float, coordinates: str, computed: int, batch_size: int
) -> GradientNoise:
    """Compute tr Σ, |G|² and their ratio from the moments of n gradients.

    Args:
        moments: Moments of the gradients.
        gram: Inner products of m of the gradients, shape [m, m]. They bound the variance of |G|² from below.
        population: Size N of the population, or `math.inf`.
        coordinates: Coordinates of gradients and Hessians, "module" or "optimizer".
        computed: Number of gradients computed.
        batch_size: Number of examples over which each gradient is averaged.

    Returns:
        The three numbers with their errors.
    """
    n = len(moments.squares)
    share = n * batch_size / population
    spread = (moments.squares.sum() - n * moments.mean_square) / (n - 1)
    target = moments.mean_square - (1 - share) * spread / n
    if share == 1:
        trace, norm = exact(batch_size * spread, "loss²"), exact(target, "loss²")
        ratio = exact(trace.value / norm.value if norm.value > 0 else math.inf, "examples")
        return GradientNoise(trace, norm, ratio, n * batch_size, population, coordinates, computed, "exact")
    if n < 3:
        return _without_error(batch_size * spread, target, n * batch_size, population, coordinates, computed)
    spreads, targets = _deleted(moments, share)
    covariance = (n - 1) ** 2 / n * np.cov(np.stack([spreads, targets])) * (1 - share)
    floor = _degenerate(gram, n) * (1 - share)
    covariance[1, 1] = max(covariance[1, 1] - floor, floor)
    trace_error, norm_error = np.sqrt(np.diag(covariance))
    trace = with_t_interval(batch_size * spread, batch_size * trace_error, n - 1, "loss²")
    norm = with_t_interval(target, norm_error, n - 1, "loss²")
    low, high = fieller(spread, target, covariance, n - 1)
    value = spread / target if target > 0 else math.inf
    # The standard error of the ratio comes from the delta method, its interval from Fieller's method.
    error = ratio_error(spread, target, covariance)
    ratio = Estimate(
        batch_size * value, batch_size * low, batch_size * high, "examples", standard_error=batch_size * error
    )
    return GradientNoise(
        trace, norm, ratio, n * batch_size, population, coordinates, computed, _advice(norm, ratio, target)
    )


def _without_error(
    trace: float, norm: float, examples: int, population: float, coordinates: str, computed: int
) -> GradientNoise:
    """Return the noise of two gradients. They have a single difference, so the error of the noise is unknown."""
    value = trace / norm if norm > 0 else math.inf
    spread, mean = (Estimate(x, -math.inf, math.inf, "loss²", standard_error=math.inf) for x in (trace, norm))
    ratio = Estimate(value, 0.0, math.inf, "examples", standard_error=math.inf)
    status = "two gradients have no error bar: give at least three"
    return GradientNoise(spread, mean, ratio, examples, population, coordinates, computed, status)


def _gram_rows(problem: Problem) -> int:
    """Return the number of gradients in the Gram matrix."""
    return max(4, min(_GRAM_EXAMPLES, _GRAM_NUMBERS // problem.size))


def _deleted(moments: Moments, share: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute tr Σ/B and |G|² with each gradient left out in turn, from the moments alone."""
    n = len(moments.squares)
    total = moments.squares.sum()
    # ‖nḡ − g_i‖² = n²‖ḡ‖² − 2n⟨g_i, ḡ⟩ + ‖g_i‖².
    mean_square = (n**2 * moments.mean_square - 2 * n * moments.along + moments.squares) / (n - 1) ** 2
    spread = (total - moments.squares - (n - 1) * mean_square) / (n - 2) if n > 2 else np.full(n, np.nan)
    return spread, mean_square - (1 - share) * spread / (n - 1)


def _degenerate(gram: Tensor, n: int) -> float:
    """Compute 2 tr(Σ²)/(n(n − 1)). The U-centered Gram matrix of some of the gradients gives an unbiased tr Σ².

    Source:
        Song, Smola, Gretton, Bedo, Borgwardt 2012, section 2.2, with a linear kernel.
    """
    m = len(gram)
    if m < 4:
        return 0.0
    gram = gram.clone().fill_diagonal_(0.0)
    rows = gram.sum(1, keepdim=True) / (m - 2)
    centred = gram - rows - rows.T + gram.sum() / ((m - 1) * (m - 2))
    centred.fill_diagonal_(0.0)
    return 2 * max(0.0, float(centred.square().sum()) / (m * (m - 3))) / (n * (n - 1))


def fieller(top: float, bottom: float, covariance: NDArray[np.float64], freedom: float) -> tuple[float, float]:
    """Return the confidence interval of the ratio top/bottom, cut at 0.

    It contains the ratios r ≥ 0 for which top − r·bottom does not differ significantly from 0.

    Args:
        top: Estimate of the numerator.
        bottom: Estimate of the denominator.
        covariance: Covariance of the two estimates, shape [2, 2].
        freedom: Degrees of freedom of the covariance.

    Returns:
        The ends of the interval. The upper end is infinite if the denominator may be 0.

    Source:
        Fieller 1954.
    """
    t2 = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) ** 2
    a = bottom**2 - t2 * covariance[1, 1]
    b = top * bottom - t2 * covariance[0, 1]
    c = top**2 - t2 * covariance[0, 0]
    discriminant = b * b - a * c
    if a > 0:
        if discriminant < 0:
            return 0.0, math.inf
        root = math.sqrt(discriminant)
        # The ratio is positive, so a negative denominator bounds nothing.
        return (max(0.0, (b - root) / a), (b + root) / a) if bottom > 0 else (0.0, math.inf)
    if discriminant < 0 or c <= 0:
        return 0.0, math.inf
    # The set lies outside of two roots, one of which is negative. It therefore contains all ratios above the positive
    # root.
    roots = sorted(((b - math.sqrt(discriminant)) / a, (b + math.sqrt(discriminant)) / a))
    return max(0.0, roots[1]), math.inf


def ratio_error(top: float, bottom: float, covariance: NDArray[np.float64]) -> float:
    """Return the standard error of the ratio top/bottom (delta method). Infinite unless the denominator is above 0.

    Args:
        top: Estimate of the numerator.
        bottom: Estimate of the denominator.
        covariance: Covariance of the two estimates, shape [2, 2].
    """
    if bottom <= 0:
        return math.inf
    slope = np.array([1 / bottom, -top / bottom**2])
    square = float(slope @ covariance @ slope)
    return math.sqrt(max(0.0, square)) if math.isfinite(square) else math.inf


def _advice(norm: Estimate, ratio: Estimate, target: float) -> str:
    if target <= 0:
        return (
            "|G|² is estimated below 0: it is too small for so few examples, or the model was trained on these data. "
            "In the second case, set `population` to the size of the training set"
        )
    if math.isinf(ratio.high):
        return "|G|² may be 0, so the noise scale has no upper bound: give more examples"
    return "ok"
