"""Planted studies: the runs of a real spec with simulated outcomes, which follow known laws."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.claims.panel import Floats
from noisescale.laws import skewed
from noisescale.noise_laws import NOISE_SCALE, SGD_NOISE
from noisescale.sweeps import SweepSpec

_CHANCE = 0.1
_TRAIN_SIZE = 4000
_noise_per_rate = partial(SGD_NOISE.per_rate, NOISE_SCALE.name)
# The batch sizes of the GPU sweeps are too large for 4,000 examples.
_LARGER_TRAIN_SIZES = {"fashion_mnist": 60_000, "cifar10": 50_000}
# Distance in log ḡ over which the noise of a seed is correlated, so that neighboring cells of a seed are alike.
_CORRELATION_LENGTH = 0.7


@dataclass(frozen=True)
class World:
    """The laws that planted runs follow. By default they are the papers' laws.

    ε is the learning rate, B the batch size and ḡ the normalized noise scale.

    Args:
        slope: Exponent of width in the best ḡ.
        best: Logarithm of the best ḡ at width 64.
        by: The quantity that determines the accuracy: "noise" for ḡ, or the "batch" or the "rate" alone.
        height: Peak accuracy at width 64.
        gain: Gain in peak accuracy per doubling of width.
        curvature: Curvature of accuracy in log ḡ at width 64. It is 0 if noise has no effect.
        sharpening: Exponent of 1/width in the curvature. If it is positive, narrow networks have sharper peaks.
        saturates: Whether the peak stops rising at width 64.
        rate_effect: Gain in accuracy per doubling of ε at equal ε/B.
        schedule_effect: Accuracy with a schedule of the rate minus accuracy with the same schedule of the batch.
        loss_below: Log of the best ḡ for accuracy minus log of the best ḡ for training loss.
        loss_below_growth: Increase of `loss_below` when log epochs grow by 1.
        edge: Largest stable rate at width 64 and large batches.
        edge_slope: Exponent of width in the largest stable rate.
        noise: Standard deviation of the accuracy of runs in one cell.
        shuffled: Whether the labels of the widths are permuted.
    """

    slope: float = 1.0
    best: float = 7.45
    by: Literal["noise", "batch", "rate"] = "noise"
    height: float = 0.6
    gain: float = 0.02
    curvature: float = 0.08
    sharpening: float = 0.0
    saturates: bool = False
    rate_effect: float = 0.0
    schedule_effect: float = 0.0
    loss_below: float = 1.0
    loss_below_growth: float = 0.0
    edge: float = 60.0
    edge_slope: float = 0.5
    noise: float = 0.004
    shuffled: bool = False

    def standard(self, best_batch: int = 18) -> World:
        """Return this world in the standard parameterization, for sweeps at ε = 0.25.

        In that parameterization, ḡ is g·width/2, and the largest stable rate falls faster with width.

        Args:
            best_batch: Best batch size at width 64, in examples.
        """
        best = math.log(0.25 * (_TRAIN_SIZE / best_batch - 1) * 32)
        return replace(self, best=best, edge=2.0, edge_slope=self.edge_slope - 1)


@dataclass(frozen=True)
class PlantedStudy:
    """A study with planted runs, in the form in which laws are fitted to studies.

    Args:
        spec: The spec as plain values.
        table: One row per run.
    """

    spec: dict[str, Any]
    table: pd.DataFrame

    def runs(self) -> pd.DataFrame:
        """Return one row per run."""
        return self.table.copy()


def plant(spec: SweepSpec, world: World, generator: np.random.Generator) -> PlantedStudy:
    """Simulate the runs of a spec, including its stability ladder.

    Args:
        spec: A spec with learning rates and batch sizes.
        world: The laws that the runs follow.
        generator: Random generator of the noise. The noise of the cells of one seed is correlated.
    """
    frame = _cells(spec)
    frame["status"], frame["collapsed"], frame["late"] = "completed", False, True
    width, batch, rate = (frame[name].to_numpy(float) for name in ("width", "batch_size", "learning_rate"))
    position = _position(frame, world)
    octaves = np.log2(width / 64)
    distance = position - world.best - world.slope * octaves * math.log(2)
    peak = world.height + world.gain * (np.minimum(octaves, 0) if world.saturates else octaves)
    below_peak = skewed(distance, world.curvature * 2.0 ** (-world.sharpening * octaves))
    noise = _seed_noise(frame, position, world.noise, generator)
    accuracy = peak + below_peak + world.rate_effect * np.log2(rate) + noise
    # A schedule ends with little noise, which raises accuracy, whether it changes the rate or the batch size.
    constant, moves_batch = frame.schedule == "constant", frame.schedule.str.contains("batch_size")
    accuracy += np.where(constant, 0.0, 0.03) - np.where(moves_batch, world.schedule_effect, 0.0)
    frame["test_accuracy"] = np.clip(accuracy, _CHANCE, 1)
    frame["test_loss"] = 1.5 - frame.test_accuracy
    less_noise = world.loss_below + world.loss_below_growth * np.log(frame.epochs.to_numpy(float) / 20)
    frame["train_loss"] = 0.05 + 0.05 * (distance + less_noise) ** 2 + 0.1 * (accuracy - peak - below_peak)
    frame["train_accuracy"] = np.exp(-0.3 * frame.train_loss)
    frame["chance_accuracy"], frame["chance_loss"] = _CHANCE, math.log(10)
    frame.loc[rate > _edge(world, width, batch, frame.momentum.to_numpy(float)), "status"] = "diverged"
    for name in ("test_accuracy", "test_loss", "train_loss", "train_accuracy"):
        frame[name] = frame[name].where(frame.status == "completed")
        frame[f"final_{name}"] = frame[name]
    table = pd.concat([frame, _stability_ladder(spec, frame, world, generator)], ignore_index=True)
    if world.shuffled:
        table["width"] = table.width.map(_permuted(spec.grid.width))
    return PlantedStudy(spec.model_dump(), table)


def _position(frame: pd.DataFrame, world: World) -> Floats:
    """Return log ḡ of each run, or the log of a substitute for ḡ that depends on the batch or the rate alone."""
    if world.by == "noise":
        noise = frame.normalized_noise_scale.to_numpy(float)
    elif world.by == "batch":
        noise = 8.0 * _noise_per_rate(frame.batch_size.to_numpy(float), frame.train_size.to_numpy(float))
    else:
        noise = frame.learning_rate.to_numpy(float) / (1 - frame.momentum.to_numpy(float)) * 250
    return np.asarray(np.log(noise))


def _cells(spec: SweepSpec) -> pd.DataFrame:
    """Return one row per run of the grid, with the columns that follow from the spec."""
    grid = spec.grid
    axes = {
        "parameterization": grid.parameterization, "width": grid.width, "learning_rate": grid.learning_rate or (),
        "batch_size": grid.batch_size, "momentum": grid.momentum, "weight_decay": grid.weight_decay,
        "init_scale": grid.init_scale, "seed": spec.seeds,
        "schedule": tuple(schedule.text for schedule in grid.schedule or (spec.training.schedule,)),
    }  # fmt: skip
    frame = pd.DataFrame(list(itertools.product(*axes.values())), columns=list(axes))
    train_size = _LARGER_TRAIN_SIZES.get(spec.dataset.name, _TRAIN_SIZE)
    frame["purpose"], frame["train_size"] = "sweep", train_size
    frame["label_noise"] = (grid.label_noise or (spec.dataset.label_noise,))[0]
    budgets = (("epochs", grid.epochs or (spec.training.epochs,)), ("steps", grid.steps or (spec.training.steps,)))
    unit, values = next((unit, values) for unit, values in budgets if values[0] is not None)
    frame = frame.merge(pd.Series(values, name=unit), how="cross")
    steps_per_epoch = train_size // frame.batch_size
    if unit == "epochs":
        frame["steps"] = (frame.epochs.astype(float) * steps_per_epoch).round().astype(int)
    else:
        frame["epochs"] = frame.steps / steps_per_epoch
    per_rate = _noise_per_rate(frame.batch_size.astype(float), float(train_size), frame.momentum)
    frame["noise_scale"] = frame.learning_rate * per_rate
    frame["temperature"] = frame.learning_rate / (frame.batch_size * (1 - frame.momentum))
    normalization = np.where(frame.parameterization == "ntk", 1.0, frame.width / frame.init_scale)
    frame["normalized_noise_scale"] = frame.noise_scale * normalization
    return frame


def _seed_noise(frame: pd.DataFrame, position: Floats, size: float, generator: np.random.Generator) -> Floats:
    """Draw noise that is smooth along the ladder of each seed and width, plus independent noise for each run."""
    noise = np.zeros(len(frame))
    # Seeds share the positions of their ladders, so each factor is computed once.
    cholesky_factors: dict[bytes, NDArray[np.floating[Any]]] = {}
    keys = ["parameterization", "width", "seed", "momentum", "schedule", "steps"]
    for _, rows in frame.groupby(keys).indices.items():
        key = position[rows].tobytes()
        if key not in cholesky_factors:
            distance = (position[rows, None] - position[None, rows]) / _CORRELATION_LENGTH
            cholesky_factors[key] = np.linalg.cholesky(np.exp(-0.5 * distance**2) + 0.2 * np.eye(len(rows)))
        noise[rows] = size * cholesky_factors[key] @ generator.standard_normal(len(rows))
    return noise


def _edge(world: World, width: Floats, batch: Floats, momentum: Floats | float = 0.0) -> Floats:
    """Return the largest stable rate. It falls at small batch sizes and rises with momentum."""
    edge: Floats = world.edge * (width / 64) ** world.edge_slope * (1 + momentum) / (1 + 4 / batch)
    return edge


def _stability_ladder(
    spec: SweepSpec, frame: pd.DataFrame, world: World, generator: np.random.Generator
) -> pd.DataFrame:
    """Simulate runs at rates on a √2 ladder around the edge. Each seed has its own threshold of divergence."""
    stability = spec.stability
    if not stability.seeds:
        return frame.iloc[:0]
    ladders = []
    for parameterization, width in itertools.product(spec.grid.parameterization, spec.grid.width):
        cell = frame[(frame.parameterization == parameterization) & (frame.width == width)].iloc[0].to_dict()
        batches_and_seeds = pd.DataFrame(
            list(itertools.product(stability.batch_size or spec.grid.batch_size, spec.seeds[: stability.seeds])),
            columns=["batch_size", "seed"],
        )
        count = len(batches_and_seeds)
        edge = _edge(world, np.full(count, float(width)), batches_and_seeds.batch_size.to_numpy(float))
        batches_and_seeds["threshold"] = edge * np.exp(0.15 * generator.standard_normal(count))
        rungs = np.sqrt(2.0) ** np.arange(-4, 5)
        runs = batches_and_seeds.loc[batches_and_seeds.index.repeat(len(rungs))].reset_index(drop=True)
        runs["learning_rate"] = np.outer(edge, rungs).ravel()
        runs["status"] = np.where(runs.learning_rate >= runs.pop("threshold"), "diverged", "completed")
        runs["purpose"], runs["steps"] = "stability", stability.steps
        shared = pd.DataFrame({key: [value] for key, value in cell.items() if key not in runs})
        ladders.append(runs.merge(shared, how="cross"))
    return pd.concat(ladders, ignore_index=True)


@cache
def _permuted(widths: tuple[int, ...]) -> dict[int, int]:
    """Return a new label for each width, in the order that has the least correlation with the widths."""
    ranks = np.arange(len(widths)) - (len(widths) - 1) / 2
    orders = itertools.permutations(range(len(widths)))
    order = min(orders, key=lambda indices: abs(float(ranks @ ranks[list(indices)])))
    return {widths[index]: width for index, width in zip(order, widths, strict=True)}
