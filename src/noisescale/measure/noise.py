"""Gradient noise: tr Σ, |G|² and their ratio, with intervals that hold."""

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
from noisescale.measure.problem import Problem

# Examples whose Gram matrix gives tr Σ², the part of the error of |G|² that a jackknife doubles. It is a floor of the
# variance, so a subset will do.
_GRAM_EXAMPLES = 512

_GRAM_NUMBERS = 2**26

# Numbers of per-example gradients that are kept between the two passes, 1 GiB in float64; beyond it they are computed
# twice.
_KEPT_NUMBERS = 2**27


@dataclass(frozen=True)
class GradientNoise:
    """The noise of the gradient.

    Args:
        trace_covariance: Tr Σ of the per-example gradient.
        gradient_norm_squared: |G|².
        gradient_noise_scale: Tr Σ/|G|², in examples.
        examples: n.
        population: N, `math.inf` for fresh data.
        coordinates: "module" or "optimizer".
        gradients: Per-example gradients spent.
        status: advice.
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
        problem: The problem, or a model, a loss and data, in mode "eval"; at least two examples. In training mode a
            single example has no gradient that does not depend on its batch; `batch_gradient_noise` measures that case.
        population: N, in place of the problem's. None: the data are the whole population (the training set of a run),
            and everything is exact. A whole number above n: the data are a random subset of that many. `math.inf`: the
            data are fresh, and were not trained on.

    Returns:
        The three numbers. Intervals are by the delete-one jackknife, that of the ratio by Fieller's method; its upper
        end is infinite where |G|² is not distinguishable from 0.

    Raises:
        BadInput: As `Problem`; fewer than two examples; a population below their number.

    Source:
        McCandlish, Kaplan, Amodei 2018, section 2.2, for the quantities; the intervals: Fieller 1954; Efron, Stein 1981
        (the jackknife doubles the degenerate part of a U-statistic's variance).
    """
    population = problem.population if population is None else population
    size = _population(population, problem.examples)
    rows = _gram_rows(problem)
    keep = problem.examples * problem.size <= _KEPT_NUMBERS
    kept = [part.double() for part in problem.per_example_gradients()] if keep else None
    mean = _mean(problem, kept)
    squares, along, spent = [], [], problem.examples
    gram: list[Tensor] = []
    for part in kept if kept is not None else problem.per_example_gradients():
        own = part.double()
        squares.append(own.square().sum(1))
        along.append(own @ mean)
        if sum(map(len, gram)) < rows:
            gram.append(own[: rows - sum(map(len, gram))].clone())
    spent += 0 if keep else problem.examples
    moments = Moments(torch.cat(squares).cpu().numpy(), torch.cat(along).cpu().numpy(), float(mean @ mean))
    few = torch.cat(gram)
    return noise_of_moments(moments, few @ few.T, size, problem.coordinates, spent, 1)


@partial(instrument, mode="train")
def batch_gradient_noise(problem: Problem, population: float | None = None) -> GradientNoise:
    """Measure the gradient noise from n whole batches: tr Σ = B·Σ‖g_b − ḡ‖²/(n − 1), |G|² = ‖ḡ‖² − (1 − nB/N) tr
    Σ/(nB).

    This serves where per-example gradients do not exist or cost too much. With batch normalization in training mode an
    example's gradient depends on its batch, and Σ/B is the covariance of a batch's gradient. The two batch sizes, B and
    nB, enter through ‖g_b‖² and ‖ḡ‖².

    Args:
        problem: The problem, or a model, a loss and batches (mode "train" by default): at least two batches of B
            examples each; three are the fewest with an error.
        population: N, of which the batches are disjoint random parts, in place of the problem's. Default: `math.inf`,
            fresh data.

    Returns:
        The three numbers, as `gradient_noise`.

    Raises:
        BadInput: As `Problem`; fewer than two batches, batches of different sizes, or a population below their
            examples.

    Source:
        McCandlish, Kaplan, Amodei 2018, appendix A.1, for the two batch sizes.
    """
    given = problem.population if population is None else population
    population = math.inf if given is None else given
    size = _population(population, problem.examples)
    sizes = [len(inputs) for inputs, _ in problem.batches()]
    if len(sizes) < 2 or len(set(sizes)) > 1:
        raise BadInput("batches", "at least two, of equal size", f"sizes {sizes[:5]}")
    found = torch.stack([problem.batch_gradient(batch).double() for batch in problem.batches()])
    mean = found.mean(0)
    moments = Moments(found.square().sum(1).cpu().numpy(), (found @ mean).cpu().numpy(), float(mean @ mean))
    rows = found[:_GRAM_EXAMPLES]
    return noise_of_moments(moments, rows @ rows.T, size, problem.coordinates, len(sizes), sizes[0])


@dataclass(frozen=True)
class Moments:
    """What the noise follows from: `squares` ‖g_i‖² [n], `along` ⟨g_i, ḡ⟩ [n] and `mean_square` ‖ḡ‖²."""

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


def _mean(problem: Problem, kept: list[Tensor] | None) -> Tensor:
    total = torch.zeros(problem.size, dtype=torch.float64, device=problem.point.device)
    for part in kept if kept is not None else problem.per_example_gradients():
        total += part.double().sum(0)
    return total / problem.examples


def noise_of_moments(
    moments: Moments, gram: Tensor, population: float, coordinates: str, spent: int, batch_size: int
) -> GradientNoise:
    """The three numbers from the moments of n gradients.

    Args:
        moments: The moments of n gradients.
        gram: [m, m], inner products of some of the gradients, from which the floor of |G|²'s variance follows.
        population: N, or `math.inf`.
        coordinates: "module" or "optimizer".
        spent: gradients.
        batch_size: Examples of which each gradient is the mean.
    """
    n = len(moments.squares)
    share = n * batch_size / population
    spread = (moments.squares.sum() - n * moments.mean_square) / (n - 1)
    target = moments.mean_square - (1 - share) * spread / n
    if share == 1:
        trace, norm = exact(batch_size * spread, "loss²"), exact(target, "loss²")
        ratio = exact(trace.value / norm.value if norm.value > 0 else math.inf, "examples")
        return GradientNoise(trace, norm, ratio, n * batch_size, population, coordinates, spent, "exact")
    if n < 3:
        return _without_error(batch_size * spread, target, n * batch_size, population, coordinates, spent)
    spreads, targets = _deleted(moments, share)
    covariance = (n - 1) ** 2 / n * np.cov(np.stack([spreads, targets])) * (1 - share)
    floor = _degenerate(gram, n) * (1 - share)
    covariance[1, 1] = max(covariance[1, 1] - floor, floor)
    trace_error, norm_error = np.sqrt(np.diag(covariance))
    trace = with_t_interval(batch_size * spread, batch_size * trace_error, n - 1, "loss²")
    norm = with_t_interval(target, norm_error, n - 1, "loss²")
    low, high = fieller(spread, target, covariance, n - 1)
    value = spread / target if target > 0 else math.inf
    # The ratio's standard error by the delta method, for orientation; its interval is Fieller's.
    error = ratio_error(spread, target, covariance)
    ratio = Estimate(
        batch_size * value, batch_size * low, batch_size * high, "examples", standard_error=batch_size * error
    )
    return GradientNoise(
        trace, norm, ratio, n * batch_size, population, coordinates, spent, _advice(norm, ratio, target)
    )


def _without_error(
    trace: float, norm: float, examples: int, population: float, coordinates: str, spent: int
) -> GradientNoise:
    """Of two gradients: their difference is one number, and says nothing of its own spread."""
    value = trace / norm if norm > 0 else math.inf
    spread, mean = (Estimate(x, -math.inf, math.inf, "loss²", standard_error=math.inf) for x in (trace, norm))
    ratio = Estimate(value, 0.0, math.inf, "examples", standard_error=math.inf)
    status = "two gradients have no error bar: give at least three"
    return GradientNoise(spread, mean, ratio, examples, population, coordinates, spent, status)


def _gram_rows(problem: Problem) -> int:
    """Of as many gradients as memory allows, half a GiB in float64."""
    return max(4, min(_GRAM_EXAMPLES, _GRAM_NUMBERS // problem.size))


def _deleted(moments: Moments, share: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """S² and |G|² with each example left out, from sums alone."""
    n = len(moments.squares)
    total = moments.squares.sum()
    # ‖nḡ − g_i‖² = n²‖ḡ‖² − 2n⟨g_i, ḡ⟩ + ‖g_i‖².
    mean_square = (n**2 * moments.mean_square - 2 * n * moments.along + moments.squares) / (n - 1) ** 2
    spread = (total - moments.squares - (n - 1) * mean_square) / (n - 2) if n > 2 else np.full(n, np.nan)
    return spread, mean_square - (1 - share) * spread / (n - 1)


def _degenerate(gram: Tensor, n: int) -> float:
    """2 tr(Σ²)/(n(n − 1)), with tr Σ² unbiased from the U-centred Gram matrix of some of the gradients.

    Source:
        Song, Smola, Gretton, Bedo, Borgwardt 2012, section 2.2: with a linear kernel it is the squared norm of Σ.
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
    """The ratios r for which top − r·bottom is not told from 0; from 0 upwards."""
    t2 = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) ** 2
    a = bottom**2 - t2 * covariance[1, 1]
    b = top * bottom - t2 * covariance[0, 1]
    c = top**2 - t2 * covariance[0, 0]
    room = b * b - a * c
    if a > 0:
        if room < 0:
            return 0.0, math.inf
        root = math.sqrt(room)
        # A negative bottom would make the ratio negative, which it is not: nothing is known of it then.
        return (max(0.0, (b - root) / a), (b + root) / a) if bottom > 0 else (0.0, math.inf)
    if room < 0 or c <= 0:
        return 0.0, math.inf
    # The set is the outside of two roots, one of them negative: all ratios from the positive one on.
    roots = sorted(((b - math.sqrt(room)) / a, (b + math.sqrt(room)) / a))
    return max(0.0, roots[1]), math.inf


def ratio_error(top: float, bottom: float, covariance: NDArray[np.float64]) -> float:
    """The ratio's standard error by the delta method; infinite where the bottom is not above 0."""
    if bottom <= 0:
        return math.inf
    slope = np.array([1 / bottom, -top / bottom**2])
    square = float(slope @ covariance @ slope)
    return math.sqrt(max(0.0, square)) if math.isfinite(square) else math.inf


def _advice(norm: Estimate, ratio: Estimate, target: float) -> str:
    if target <= 0:
        return (
            "|G|² is estimated below 0: it is too small for so few examples, or the data were trained on, "
            "where `population` must be their number"
        )
    if math.isinf(ratio.high):
        return "|G|² is not told from 0: the noise scale has no upper bound; give more examples"
    return "ok"
