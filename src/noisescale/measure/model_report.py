"""Every instrument on one model, as one table with its errors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from noisescale.datasets import Dataset
from noisescale.errors import BadInput
from noisescale.estimate import Estimate, as_json
from noisescale.measure.box_sharpness import sharpness
from noisescale.measure.covariance_and_curvature import noise_and_curvature
from noisescale.measure.hessian import Eigenvalues, hessian_frobenius_norm, hessian_trace
from noisescale.measure.noise import gradient_noise
from noisescale.measure.ntk import ntk_eigenvalues
from noisescale.measure.problem import Problem

SCHEMA_VERSION = 1

# Per-example gradients of which all are kept at once, for C against H, are left out above so many numbers, 2 GiB.
_MOST_NUMBERS = 2**28


@dataclass(frozen=True)
class Quantity:
    """A row of the table.

    Args:
        name: As in the papers.
        estimate: Value and error.
        convention: What the number is.
        status: advice.
        cost: Passes spent, in words.
        seconds: Of them.
    """

    name: str
    estimate: Estimate
    convention: str
    status: str
    cost: str
    seconds: float


@dataclass(frozen=True)
class ModelReport:
    """What was measured of a model.

    Args:
        quantities: The rows.
        parameters: P.
        examples: N, on which.
        population: N, of which they are a random part.
        loss: Its name.
        dtype: precision.
        coordinates: "module".
        mode: "eval".
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
        """Plain values; ends that the data do not bound are null."""
        rows = {row.name: _row(row) for row in self.quantities}
        about = {name: value for name, value in asdict(self).items() if name != "quantities"}
        return {"schema_version": SCHEMA_VERSION, **about, "quantities": rows}


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """½‖f − y‖² summed over outputs, its mean over the batch; labels are taken as one-hot rows."""
    if not targets.is_floating_point():
        targets = nn.functional.one_hot(targets, outputs.shape[-1])
    return 0.5 * (outputs - targets.to(outputs)).square().sum(-1).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": nn.functional.cross_entropy,
    "mse": half_squared_error,
}


def measure_model(model: nn.Module, data: Dataset, *, loss: str, examples: int, seed: int = 0) -> ModelReport:
    """Measure gradient noise and curvature on a random part of the training set, in evaluation mode.

    Args:
        model: In float32 or float64, on the CPU or a GPU.
        data: The data set; its training set is measured.
        loss: "cross_entropy" or "mse".
        examples: At most so many of the training set.
        seed: Of their choice and of random probes.

    Raises:
        BadInput: A loss that the targets do not allow, too few examples, or what `Problem` refuses.
    """
    if loss not in LOSSES or (loss == "cross_entropy" and data.y_train.is_floating_point()):
        raise BadInput("--loss", "'cross_entropy' for labels, 'mse' for labels or real-valued targets", repr(loss))
    if examples < 2:
        raise BadInput("--examples", "at least 2", examples)
    population = len(data.x_train)
    index = torch.randperm(population, generator=torch.Generator().manual_seed(seed))[:examples]
    kind = next((one.dtype for one in model.parameters()), torch.float32)
    chosen = data.x_train[index].to(kind), data.y_train[index]
    if chosen[1].is_floating_point():
        chosen = chosen[0], chosen[1].to(kind)
    problem = _checked(model, LOSSES[loss], chosen, population)
    rows: list[Quantity] = []
    for measure in _STEPS:
        if measure is _alignment and problem.size * len(index) > _MOST_NUMBERS:
            continue
        began = time.perf_counter()
        found = measure(problem, seed)
        seconds = time.perf_counter() - began
        rows += [Quantity(*row, seconds / len(found)) for row in found]
    return ModelReport(tuple(rows), problem.size, len(index), population, loss, str(kind).removeprefix("torch."),
                       problem.coordinates, problem.mode)  # fmt: skip


def _checked(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], data: tuple[Tensor, Tensor], population: int
) -> Problem:
    try:
        return Problem(model, loss, data, population=population)
    except BadInput:
        raise
    except Exception as error:  # a user's model may raise anything
        shape = tuple(data[0].shape[1:])
        raise BadInput("MODEL", f"a model of inputs of shape {shape}", f"{type(error).__name__}: {error}") from None


_Row = tuple[str, Estimate, str, str, str]


def _noise(problem: Problem, seed: int) -> list[_Row]:
    found = gradient_noise(problem)
    cost = f"{found.gradients:,} gradients"
    return [
        ("trace_covariance", found.trace_covariance, "tr Σ of the per-example gradient", "ok", cost),
        ("gradient_norm_squared", found.gradient_norm_squared, "|G|² of the training loss", "ok", cost),
        ("gradient_noise_scale", found.gradient_noise_scale, "tr Σ/|G|²: the batch at which noise equals signal",
         found.status, cost),
    ]  # fmt: skip


def _sharpness(problem: Problem, seed: int) -> list[_Row]:
    found = sharpness(problem, seed=seed)
    return [
        _eigenvalue("lambda_max", found.plain, "largest eigenvalue of the Hessian"),
        _eigenvalue(
            "invariant_sharpness", found.invariant, "λ_max of |w|H|w|, which no rescaling of the weights changes"
        ),
    ]


def _eigenvalue(name: str, found: Eigenvalues, convention: str) -> _Row:
    value, residual = float(found.values[0]), float(found.residuals[0])
    bounded = Estimate(value, value - residual, value + residual, "loss", standard_error=residual)
    return name, bounded, convention, found.status, f"{found.products:,} products"


def _trace(problem: Problem, seed: int) -> list[_Row]:
    found = hessian_trace(problem, seed=seed)
    return [("hessian_trace", found.estimate, "tr H", found.status, f"{found.products:,} products")]


def _norm(problem: Problem, seed: int) -> list[_Row]:
    found = hessian_frobenius_norm(problem, seed=seed)
    return [("hessian_frobenius_norm", found.estimate, "‖H‖", found.status, f"{found.products:,} products")]


def _tangent(problem: Problem, seed: int) -> list[_Row]:
    found = ntk_eigenvalues(problem, seed=seed)
    value, error, rate = found.gauss_newton, found.residual, found.largest_stable_rate
    newton = Estimate(value, value - error, value + error, "loss", standard_error=error)
    ends = 2 / (value + error) if value > 0 else rate, 2 / (value - error) if value > error else math.inf
    spread = rate * error / value if value > 0 else math.inf
    edge = Estimate(rate, *ends, "learning rate", standard_error=spread)
    cost = f"{found.products:,} products"
    return [
        ("gauss_newton_lambda_max", newton, "of the linearised model", found.status, cost),
        ("largest_stable_rate", edge, "2/λ of it: full batches, no momentum", found.status, cost),
    ]


def _alignment(problem: Problem, seed: int) -> list[_Row]:
    found = noise_and_curvature(problem, k=1, seed=seed)
    cost = f"{found.products:,} products"
    return [("noise_curvature_cosine", found.cosine, "angle between C and H; 1 where proportional", found.status, cost)]


_STEPS = (_noise, _sharpness, _trace, _norm, _tangent, _alignment)


def _row(row: Quantity) -> dict[str, Any]:
    values: dict[str, Any] = as_json(replace(row.estimate, convention=row.convention))
    about = {"status": row.status, "cost": row.cost, "seconds": row.seconds}
    return {**values, "standard_error": as_json(row.estimate.standard_error), **about}
