"""Studies of a world whose laws are known, on the cells of a real spec: what an analysis must find, or must not."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.laws.planted import skewed
from noisescale.noise_laws import NOISE_SCALE, SGD_NOISE
from noisescale.sweeps import SweepSpec

Floats = NDArray[np.float64]

_TRAIN_SIZE, _CHANCE = 4000, 0.1
# Batches of a GPU's sweeps would leave nothing of 4,000 examples.
_LARGER = {"fashion_mnist": 60_000, "cifar10": 50_000}
# Nats of g within which a seed's own curve keeps its shape: neighbouring cells of a seed are then alike.
_SMOOTH = 0.7


@dataclass(frozen=True)
class World:
    """How planted runs behave: as the papers say by default, and otherwise where a field is changed.

    Arguments:
        slope: exponent of width in the best ḡ. best: log of the best ḡ at width 64. by: what decides the accuracy:
            "noise" (ḡ), or the "batch" or the "rate" alone. height: of the peak at width 64. gain: of it for each
            doubling of width. curvature: of accuracy in log ḡ there; 0 where noise does nothing.
        saturates: whether the peak stops to rise at width 64. rate_effect: accuracy for each doubling of ε at equal
            ε/B. schedule_effect: accuracy that a schedule of the batch lacks of one of the rate.
        loss_below: nats by which the noise best for the training loss lies below that best for accuracy.
        loss_wants_less: by how much more for each nat of epochs.
        edge: the largest stable rate at width 64 and large batches. edge_slope: its exponent of width.
        noise: standard deviation of a run's accuracy. shuffled: whether the labels of widths are exchanged.
    """

    slope: float = 1.0
    best: float = 7.45
    by: Literal["noise", "batch", "rate"] = "noise"
    height: float = 0.6
    gain: float = 0.02
    curvature: float = 0.08
    saturates: bool = False
    rate_effect: float = 0.0
    schedule_effect: float = 0.0
    loss_below: float = 1.0
    loss_wants_less: float = 0.0
    edge: float = 60.0
    edge_slope: float = 0.5
    noise: float = 0.004
    shuffled: bool = False


@dataclass(frozen=True)
class PlantedStudy:
    """What the laws need of a study."""

    spec: dict[str, Any]
    table: pd.DataFrame

    def runs(self) -> pd.DataFrame:
        """One row a run."""
        return self.table.copy()


def plant(spec: SweepSpec, world: World, generator: np.random.Generator) -> PlantedStudy:
    """The runs of a spec with rates and batches, and of its ladder of stable rates, in a world.

    Arguments:
        generator: of the seeds' noise, which is shared by the cells of a seed in part.
    """
    frame = _cells(spec)
    frame["status"], frame["collapsed"], frame["late"] = "completed", False, True
    width, batch, rate = (frame[name].to_numpy(float) for name in ("width", "batch_size", "learning_rate"))
    momentum = frame.momentum.to_numpy(float)
    x = _place(frame, world)
    octaves = np.log2(width / 64)
    away = x - world.best - world.slope * octaves * math.log(2)
    peak = world.height + world.gain * (np.minimum(octaves, 0) if world.saturates else octaves)
    accuracy = (
        peak
        + skewed(away, world.curvature)
        + world.rate_effect * np.log2(rate)
        + _seed_noise(frame, x, world.noise, generator)
    )
    # At its end a schedule has used little noise: it gains, whether the rate or the batch is what moves.
    constant, moved = frame.schedule == "constant", frame.schedule.str.contains("batch_size")
    accuracy += np.where(constant, 0.0, 0.03) - np.where(moved, world.schedule_effect, 0.0)
    frame["test_accuracy"] = np.clip(accuracy, _CHANCE, 1)
    frame["test_loss"] = 1.5 - frame.test_accuracy
    less = world.loss_below + world.loss_wants_less * np.log(frame.epochs.to_numpy(float) / 20)
    frame["train_loss"] = 0.05 + 0.05 * (away + less) ** 2 + 0.1 * (accuracy - peak - skewed(away, world.curvature))
    frame["train_accuracy"] = np.exp(-0.3 * frame.train_loss)
    frame["chance_accuracy"], frame["chance_loss"] = _CHANCE, math.log(10)
    frame.loc[rate > _edge(world, width, batch, momentum), "status"] = "diverged"
    for name in ("test_accuracy", "test_loss", "train_loss", "train_accuracy"):
        frame[name] = frame[name].where(frame.status == "completed")
        frame[f"final_{name}"] = frame[name]
    table = pd.concat([frame, _ladder(spec, frame, world, generator)], ignore_index=True)
    if world.shuffled:
        table["width"] = table.width.map(_exchanged(spec.grid.width))
    return PlantedStudy(spec.model_dump(), table)


def _place(frame: pd.DataFrame, world: World) -> Floats:
    """Log of what decides the accuracy of each run: its ḡ, or what ḡ would be if the batch or the rate were alone."""
    if world.by == "noise":
        shown = frame.normalized_noise_scale.to_numpy(float)
    elif world.by == "batch":
        shown = (
            SGD_NOISE.per_rate(NOISE_SCALE.name, frame.batch_size.to_numpy(float), frame.train_size.to_numpy(float))
            * 8.0
        )
    else:
        shown = frame.learning_rate.to_numpy(float) / (1 - frame.momentum.to_numpy(float)) * 250
    return np.asarray(np.log(shown))


def _cells(spec: SweepSpec) -> pd.DataFrame:
    grid = spec.grid
    axes = {
        "parameterization": grid.parameterization, "width": grid.width, "learning_rate": grid.learning_rate or (),
        "batch_size": grid.batch_size, "momentum": grid.momentum, "weight_decay": grid.weight_decay,
        "init_scale": grid.init_scale, "seed": spec.seeds,
        "schedule": tuple(one.text for one in grid.schedule or (spec.training.schedule,)),
    }  # fmt: skip
    frame = pd.DataFrame(list(itertools.product(*axes.values())), columns=list(axes))
    size = _LARGER.get(spec.dataset.name, _TRAIN_SIZE)
    frame["purpose"], frame["train_size"], frame["label_noise"] = "sweep", size, 0.0
    budgets = (("epochs", grid.epochs or (spec.training.epochs,)), ("steps", grid.steps or (spec.training.steps,)))
    name, values = next((name, own) for name, own in budgets if own[0] is not None)
    frame = frame.merge(pd.Series(values, name=name), how="cross")
    whole = size // frame.batch_size
    if name == "epochs":
        frame["steps"] = (frame.epochs.astype(float) * whole).round().astype(int)
    else:
        frame["epochs"] = frame.steps / whole
    per_rate = SGD_NOISE.per_rate(NOISE_SCALE.name, frame.batch_size.astype(float), float(size), frame.momentum)
    frame["noise_scale"] = frame.learning_rate * per_rate
    frame["temperature"] = frame.learning_rate / (frame.batch_size * (1 - frame.momentum))
    unit = np.where(frame.parameterization == "ntk", 1.0, frame.width / frame.init_scale)
    frame["normalized_noise_scale"] = frame.noise_scale * unit
    return frame


def _seed_noise(frame: pd.DataFrame, x: Floats, size: float, generator: np.random.Generator) -> Floats:
    """Smooth along the ladder within a seed and width, plus a part of each run's own."""
    found = np.zeros(len(frame))
    roots: dict[bytes, NDArray[np.floating[Any]]] = {}  # seeds share their places on the ladder
    for _, place in frame.groupby(
        ["parameterization", "width", "seed", "momentum", "schedule", "steps"]
    ).indices.items():
        key = x[place].tobytes()
        if key not in roots:
            distance = (x[place, None] - x[None, place]) / _SMOOTH
            roots[key] = np.linalg.cholesky(np.exp(-0.5 * distance**2) + 0.2 * np.eye(len(place)))
        found[place] = size * roots[key] @ generator.standard_normal(len(place))
    return found


def _edge(world: World, width: Floats, batch: Floats, momentum: Floats | float = 0.0) -> Floats:
    """The largest stable rate, which falls at small batches and rises with momentum."""
    found: Floats = world.edge * (width / 64) ** world.edge_slope * (1 + momentum) / (1 + 4 / batch)
    return found


def _ladder(spec: SweepSpec, frame: pd.DataFrame, world: World, generator: np.random.Generator) -> pd.DataFrame:
    """Rates on a √2 ladder around the edge, which falls at small batches, with a threshold for each seed."""
    chosen = spec.stability
    if not chosen.seeds:
        return frame.iloc[:0]
    parts = []
    for name, width in itertools.product(spec.grid.parameterization, spec.grid.width):
        like = frame[(frame.parameterization == name) & (frame.width == width)].iloc[0].to_dict()
        cells = pd.DataFrame(
            list(itertools.product(chosen.batch_size or spec.grid.batch_size, spec.seeds[: chosen.seeds])),
            columns=["batch_size", "seed"],
        )
        edge = _edge(world, np.full(len(cells), float(width)), cells.batch_size.to_numpy(float))
        cells["threshold"] = edge * np.exp(0.15 * generator.standard_normal(len(cells)))
        rungs = np.sqrt(2.0) ** np.arange(-4, 5)
        own = cells.loc[cells.index.repeat(len(rungs))].reset_index(drop=True)
        own["learning_rate"] = np.outer(edge, rungs).ravel()
        own["status"] = np.where(own.learning_rate >= own.pop("threshold"), "diverged", "completed")
        own["purpose"], own["steps"] = "stability", chosen.steps
        same = pd.DataFrame({key: [value] for key, value in like.items() if key not in own})
        parts.append(own.merge(same, how="cross"))
    return pd.concat(parts, ignore_index=True)


@cache
def _exchanged(widths: tuple[int, ...]) -> dict[int, int]:
    """Each width under another's name, in the order that has the least to do with their own."""
    own = np.arange(len(widths)) - (len(widths) - 1) / 2
    order = min(itertools.permutations(range(len(widths))), key=lambda places: abs(float(own @ own[list(places)])))
    return {widths[place]: width for place, width in zip(order, widths, strict=True)}
