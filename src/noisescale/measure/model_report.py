"""A table of all instruments on one model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from noisescale.datasets import Dataset
from noisescale.errors import BadInput, one_line, unknown_name
from noisescale.estimate import Estimate, as_json
from noisescale.measure.box_sharpness import sharpness
from noisescale.measure.covariance_and_curvature import noise_and_curvature
from noisescale.measure.hessian import Eigenvalues, double_product, hessian_frobenius_norm, hessian_trace
from noisescale.measure.mean_losses import MeanLoss, mean_loss
from noisescale.measure.noise import gradient_noise
from noisescale.measure.ntk import ntk_eigenvalues
from noisescale.measure.problem import Problem
from noisescale.measure.problem_checks import lower_precision
from noisescale.named_inputs import Inputs, described, in_precision, wide

SCHEMA_VERSION = 1

# Largest number of elements in all per-example gradients, which the comparison of gradient covariance and Hessian keeps
# in memory: 2 GiB in float64. The comparison is left out if there are more.
_MAX_GRADIENT_ELEMENTS = 2**28
# Largest number of products for each quantity, as in the instruments.
MAX_PRODUCTS = 1000
_ALIGNMENT_PRODUCTS = 400


@dataclass(frozen=True)
class Quantity:
    """A row of the table.

    Args:
        name: Name of the quantity.
        estimate: Value, standard error and interval.
        convention: Definition of the quantity.
        status: "ok", or a sentence that says what to change.
        cost: Number of gradients or products computed, in words.
        seconds: Time of the computation, in seconds.
    """

    name: str
    estimate: Estimate
    convention: str
    status: str
    cost: str
    seconds: float


@dataclass(frozen=True)
class Progress:
    """The state of `measure_model` between two measurements.

    Args:
        done: Quantities of the last measurement.
        following: Names of the quantities of the next one; empty at the end.
        seconds_at_most: Time that all further products take if each measurement needs its largest number of them, in
            seconds; NaN before the first measurement. Most need far fewer.
    """

    done: tuple[Quantity, ...]
    following: tuple[str, ...]
    seconds_at_most: float


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class ModelReport:
    """The measured quantities of a model.

    Args:
        quantities: Rows of the table.
        parameters: Number of parameters.
        examples: Number of examples measured.
        population: Number of examples from which the measured examples were drawn.
        loss: Name of the loss.
        dtype: Precision of the model.
        coordinates: Coordinates of gradients and Hessians, always "module".
        mode: Mode of the model, always "eval".
    """

    quantities: tuple[Quantity, ...]
    parameters: int
    examples: int
    population: int
    loss: str
    dtype: str
    coordinates: str
    mode: str

    def as_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values. Infinite ends of intervals become None."""
        rows = {row.name: _row(row) for row in self.quantities}
        about = {name: value for name, value in asdict(self).items() if name != "quantities"}
        return {"schema_version": SCHEMA_VERSION, **about, "quantities": rows}


def measure_model(
    model: nn.Module,
    data: Dataset,
    *,
    loss: str,
    examples: int,
    seed: int = 0,
    ignore_index: int | None = None,
    only: Sequence[str] = (),
    max_products: int = MAX_PRODUCTS,
    on_progress: OnProgress | None = None,
) -> ModelReport:
    """Measure gradient noise and curvature on a random part of the training set, in evaluation mode.

    Args:
        model: Model in float32 or float64, on the CPU or a GPU.
        data: Data set. Its training set is measured.
        loss: Name of the loss, as in `training.loss`: "cross_entropy", "mse", "binary_cross_entropy", or
            "package.module:function" of a function that returns a value for each example or token.
        examples: Largest number of training examples to measure.
        seed: Seed of the choice of examples and of the random probes.
        ignore_index: Label of the targets that do not count in the cross-entropy.
        only: Names of the quantities to measure. Default: all.
        max_products: Largest number of products with the Hessian or another matrix, for each quantity.
        on_progress: Called before each measurement and at the end.

    Returns:
        The table.

    Raises:
        BadInput: A quantity is unknown, the loss does not fit the targets, fewer than two examples are requested, or
            `Problem` refuses the input.
    """
    check_names(only)
    if examples < 2:
        raise BadInput("--examples", "at least 2", examples)
    population = len(data.x_train)
    index = torch.randperm(population, generator=torch.Generator().manual_seed(seed))[:examples]
    # Without parameters the model is refused below.
    dtype = lower_precision([parameter.dtype for parameter in model.parameters()] or [torch.float32])
    given = data.x_train[index], data.y_train[index]
    inputs, targets = in_precision(wide(given[0]), dtype), in_precision(wide(given[1]), dtype)
    problem = _build_problem(model, mean_loss(loss, targets, ignore_index), (inputs, targets), population)
    left = [measurement for measurement in MEASUREMENTS if not only or set(only) & set(measurement.names)]
    if problem.size * len(index) > _MAX_GRADIENT_ELEMENTS:
        left = [measurement for measurement in left if measurement.measure is not _alignment]
    rows: list[Quantity] = []
    needs_products, report = any(measurement.loops for measurement in left), on_progress or (lambda progress: None)
    report(Progress((), left[0].names if left else (), math.nan if needs_products else 0.0))
    per_product = _seconds_per_product(problem) if on_progress and needs_products else 0.0
    while left:
        measurement, began = left.pop(0), time.perf_counter()
        measured = measurement.measure(problem, seed, max_products)
        seconds = time.perf_counter() - began
        done = [Quantity(*row, seconds / len(measured)) for row in measured if not only or row[0] in only]
        rows += done
        following = left[0].names if left else ()
        report(Progress(tuple(done), following, _at_most(left, max_products, per_product)))
    return ModelReport(tuple(rows), problem.size, len(index), population, loss, str(dtype).removeprefix("torch."),
                       problem.coordinates, problem.mode)  # fmt: skip


def check_names(names: Sequence[str]) -> None:
    """Check names of quantities.

    Raises:
        BadInput: A name is unknown.
    """
    known = [name for measurement in MEASUREMENTS for name in measurement.names]
    for name in names:
        if name not in known:
            raise unknown_name("--only", known, name)


def _seconds_per_product(problem: Problem) -> float:
    product = double_product(problem)
    began = time.perf_counter()
    product(torch.ones(problem.size, dtype=torch.float64, device=problem.point.device))
    return time.perf_counter() - began


def _at_most(left: Sequence[Measurement], max_products: int, per_product: float) -> float:
    return sum(measurement.loops for measurement in left) * max_products * per_product


def _build_problem(model: nn.Module, loss: MeanLoss, data: tuple[Inputs, Tensor], population: int) -> Problem:
    try:
        return Problem(model, loss, data, population=population)
    except BadInput:
        raise
    except Exception as error:  # a user's model may raise anything
        raise BadInput("MODEL", f"a model of inputs of shape {described(data[0])}", one_line(error)) from None


_Row = tuple[str, Estimate, str, str, str]


def _noise(problem: Problem, seed: int, max_products: int) -> list[_Row]:
    noise = gradient_noise(problem)
    cost = f"{noise.gradients:,} gradients"
    return [
        ("trace_covariance", noise.trace_covariance, "tr Σ of the per-example gradient", "ok", cost),
        ("gradient_norm_squared", noise.gradient_norm_squared, "|G|² of the training loss", "ok", cost),
        ("gradient_noise_scale", noise.gradient_noise_scale, "tr Σ/|G|²: the batch size at which noise equals signal",
         noise.status, cost),
    ]  # fmt: skip


def _sharpness(problem: Problem, seed: int, max_products: int) -> list[_Row]:
    measured = sharpness(problem, seed=seed, max_products=max_products)
    invariant = "λ_max of |w|H|w|, which no rescaling of the weights changes"
    return [
        _eigenvalue("lambda_max", measured.plain, "largest eigenvalue of the Hessian"),
        _eigenvalue("invariant_sharpness", measured.invariant, invariant),
    ]


def _eigenvalue(name: str, measured: Eigenvalues, convention: str) -> _Row:
    value, residual = float(measured.values[0]), float(measured.residuals[0])
    bounded = Estimate(value, value - residual, value + residual, "loss", standard_error=residual)
    return name, bounded, convention, measured.status, f"{measured.products:,} products"


def _trace(problem: Problem, seed: int, max_products: int) -> list[_Row]:
    trace = hessian_trace(problem, seed=seed, max_products=max_products)
    return [("hessian_trace", trace.estimate, "tr H", trace.status, f"{trace.products:,} products")]


def _norm(problem: Problem, seed: int, max_products: int) -> list[_Row]:
    norm = hessian_frobenius_norm(problem, seed=seed, max_products=max_products)
    return [("hessian_frobenius_norm", norm.estimate, "‖H‖", norm.status, f"{norm.products:,} products")]


def _tangent(problem: Problem, seed: int, max_products: int) -> list[_Row]:
    kernel = ntk_eigenvalues(problem, seed=seed, max_products=max_products)
    value, error, rate = kernel.gauss_newton, kernel.residual, kernel.largest_stable_rate
    newton = Estimate(value, value - error, value + error, "loss", standard_error=error)
    ends = 2 / (value + error) if value > 0 else rate, 2 / (value - error) if value > error else math.inf
    spread = rate * error / value if value > 0 else math.inf
    edge = Estimate(rate, *ends, "learning rate", standard_error=spread)
    cost = f"{kernel.products:,} products"
    return [
        ("gauss_newton_lambda_max", newton, "λ_max of the linearized model", kernel.status, cost),
        (
            "largest_stable_rate",
            edge,
            "2/λ_max of the linearized model, for full batches without momentum",
            kernel.status,
            cost,
        ),
    ]


def _alignment(problem: Problem, seed: int, max_products: int) -> list[_Row]:
    compared = noise_and_curvature(problem, k=1, seed=seed, max_products=min(max_products, _ALIGNMENT_PRODUCTS))
    cost = f"{compared.products:,} products"
    convention = "cosine between gradient covariance and Hessian; 1 if proportional"
    return [("noise_curvature_cosine", compared.cosine, convention, compared.status, cost)]


@dataclass(frozen=True)
class Measurement:
    """Quantities that are measured together.

    Args:
        names: Their names, in the order of the rows.
        measure: Measures them, from the problem, the seed and the largest number of products.
        loops: How many times the largest number of products it may take.
    """

    names: tuple[str, ...]
    measure: Callable[[Problem, int, int], list[_Row]]
    loops: int


MEASUREMENTS = (
    Measurement(("trace_covariance", "gradient_norm_squared", "gradient_noise_scale"), _noise, 0),
    Measurement(("lambda_max", "invariant_sharpness"), _sharpness, 2),
    Measurement(("hessian_trace",), _trace, 1),
    Measurement(("hessian_frobenius_norm",), _norm, 1),
    Measurement(("gauss_newton_lambda_max", "largest_stable_rate"), _tangent, 1),
    Measurement(("noise_curvature_cosine",), _alignment, 1),
)


def _row(row: Quantity) -> dict[str, Any]:
    values: dict[str, Any] = as_json(replace(row.estimate, convention=row.convention))
    about = {"status": row.status, "cost": row.cost, "seconds": row.seconds}
    return {**values, "standard_error": as_json(row.estimate.standard_error), **about}
