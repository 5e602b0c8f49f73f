"""The experiment on redrawn labels: at equal memorization of them, what the noise of SGD does for the others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import Criterion, Statistic, above, over_seeds, within
from noisescale.claims.trained_here import outputs, small_spec, trainers
from noisescale.datasets import load_dataset
from noisescale.laws.equivalence import MARGIN

Floats = NDArray[np.float64]

_SEEDS = {"smoke": 4, "laptop": 6}
_WIDTH = {"smoke": 128, "laptop": 256}
_TRAIN_SIZE = {"smoke": 400, "laptop": 1000}
_EPOCHS = {"smoke": 40, "laptop": 120}
_RATES = (0.025, 0.05, 0.1)
_BATCHES = {"smoke": (4, 16), "laptop": (4, 8, 16, 32, 64)}
_LABEL_NOISE = 0.25
_MOMENTUM = 0.9
_LOOKS = {"smoke": 6, "laptop": 20}
# Of memorized accuracy along training: below, nothing is memorized beyond chance; above, runs pile up.
_RANGE = (0.15, 0.95)


def memorization(request: Request) -> Evidence:
    """C4.8: at equal accuracy on redrawn labels, clean test accuracy at the end of training rises with η/S."""
    if request.scale == "smoke":
        request.planted.append("memorization")
        points = _planted(request.first_seed)
    else:
        parts = [_points(request, batch) for batch in _BATCHES[request.scale]]
        points = pd.concat(parts, ignore_index=True)
    if request.null:  # taken out: within a seed, runs have each other's noise
        generator = np.random.default_rng(request.first_seed)
        noises = np.sort(points.noise.unique())
        for seed in points.seed.unique():
            own = points.seed == seed
            exchanged = dict(zip(noises, generator.permutation(noises), strict=True))
            points.loc[own, "noise"] = points.noise[own].map(exchanged)
    ends, young = _ends(points), _young(points)
    beside: tuple[Statistic, ...] = ()
    trained = len(ends)
    if request.scale == "laptop" and not request.null:
        moved = pd.concat([_points(request, batch, _MOMENTUM) for batch in _BATCHES[request.scale]], ignore_index=True)
        beside = _with_momentum(points, moved)
        trained += len(_ends(moved))
    panel = Panel(
        "accuracy on redrawn labels, fraction", "clean test accuracy, fraction",
        (
            Curve("ends of runs, mean of seeds", *_means(ends, "noise")),
            *(
                Curve(f"along training, η/S = {noise:.2g}", *_means(own, "look"))
                for noise, own in _spread(points)
            ),
        ),
    )  # fmt: skip
    size = _TRAIN_SIZE[request.scale]
    return Evidence(
        (_rise(f"along training, {_RANGE[0]:g} to {_RANGE[1]:g} memorized", young, above(0)),
         _rise("ends of runs", ends, above(0))),
        (panel, _at_the_end(ends)),
        trained,
        f"MLP of width {_WIDTH[request.scale]}, standard parameterization, {size} examples of MNIST-1D, "
        f"{_LABEL_NOISE:.0%} of labels redrawn; η = {_RATES}, S = {_BATCHES[request.scale]}, "
        f"{_EPOCHS[request.scale]} epochs",
        {
            "least memorized accuracy at the end": float(ends.memorized.min()),
            "largest memorized accuracy at the end": float(ends.memorized.max()),
        },
        beside,
    )  # fmt: skip


def _with_momentum(points: pd.DataFrame, moved: pd.DataFrame) -> tuple[Statistic, ...]:
    """Of runs with momentum, over the same η/(1 − m): the same rise, and whether they differ from those without."""
    both = pd.concat([points.assign(moved=0.0), moved.assign(moved=1.0)], ignore_index=True)
    found: list[Statistic] = []
    for name, part in (("along training", _young), ("ends of runs", _ends)):
        own = part(both)
        less = np.array([_coefficients(one, ["moved"])[1] for _, one in own.groupby("seed")])
        found += [
            _rise(f"{name}, momentum {_MOMENTUM:g}", part(moved), above(0)),
            over_seeds(f"test accuracy with momentum less without: {name}", less, "fraction",
                       "regression within a seed, given η/(S(1 − m)), memorized accuracy and its square",
                       within(0, MARGIN)),
        ]  # fmt: skip
    return tuple(found)


def _ends(points: pd.DataFrame) -> pd.DataFrame:
    found: pd.DataFrame = points[points.look == points.look.max()]
    return found


def _young(points: pd.DataFrame) -> pd.DataFrame:
    found: pd.DataFrame = points[points.memorized.between(*_RANGE)]
    return found


def _rise(name: str, points: pd.DataFrame, criterion: Criterion) -> Statistic:
    values = np.array([_coefficients(own)[0] for _, own in points.groupby("seed")]) * np.log(2)
    convention = "regression within a seed, given memorized accuracy and its square"
    return over_seeds(f"test accuracy, an octave of η/S: {name}", values, "fraction", convention, criterion)


def _coefficients(points: pd.DataFrame, others: Sequence[str] = ()) -> Floats:
    """Of log noise and of other columns in test accuracy, beside a parabola in memorized accuracy."""
    m = points.memorized.to_numpy()
    beside = [points[name].to_numpy() for name in others]
    design = np.stack([np.log(points.noise.to_numpy()), *beside, np.ones(len(m)), m, m**2], 1)
    found: Floats = np.linalg.lstsq(design, points.test.to_numpy(), rcond=None)[0]
    return found


def _means(points: pd.DataFrame, by: str) -> tuple[Floats, Floats]:
    means = points.groupby(by)[["memorized", "test"]].mean().sort_values("memorized")
    return means.memorized.to_numpy(), means.test.to_numpy()


def _spread(points: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    """The least, a middle and the largest noise."""
    noises = np.sort(points.noise.unique())
    return [(float(noise), points[points.noise == noise]) for noise in noises[[0, len(noises) // 2, -1]]]


def _at_the_end(ends: pd.DataFrame) -> Panel:
    means, spread = (getattr(ends.groupby("noise").test, name)() for name in ("mean", "std"))
    x = means.index.to_numpy(dtype=np.float64)
    curve = Curve("± standard deviation of runs", x, means.to_numpy(), (means - spread).to_numpy(),
                  (means + spread).to_numpy())  # fmt: skip
    return Panel("η/S", "clean test accuracy at the end, fraction", (curve,), log_x=True)


def _planted(first: int) -> pd.DataFrame:
    """Runs in which test accuracy rises with memorized accuracy, and by a point an octave of noise."""
    generator = np.random.default_rng(first)
    looks = _LOOKS["smoke"]
    grid = itertools.product(range(_SEEDS["smoke"]), [2.0**k for k in range(6)], range(1, looks + 1))
    points = pd.DataFrame(list(grid), columns=["seed", "noise", "look"])
    spread = generator.standard_normal((2, len(points)))
    points["memorized"] = np.clip(points.look / looks - 0.02 + 0.02 * spread[0], 0, 1)
    points["test"] = 0.2 + 0.1 * points.memorized + 0.01 * np.log2(points.noise) + 0.003 * spread[1]
    return points


def _points(request: Request, batch: int, momentum: float = 0.0) -> pd.DataFrame:
    """A row a run and look, of all effective rates η/(1 − m) at one batch."""
    seeds = range(request.first_seed, request.first_seed + _SEEDS[request.scale])
    spec = small_spec(
        "memorization", seeds,
        dataset={"train_size": _TRAIN_SIZE[request.scale], "test_size": 5000, "label_noise": _LABEL_NOISE},
        grid={"width": [_WIDTH[request.scale]], "learning_rate": [rate * (1 - momentum) for rate in _RATES],
              "batch_size": [batch], "momentum": [momentum]},
        training={"epochs": _EPOCHS[request.scale], "evaluations": 2},
    )  # fmt: skip
    (trainer,) = trainers(spec)
    data, steps = trainer.dataset, trainer.runs[0].steps
    redrawn = data.y_train != load_dataset(spec.dataset.options(0.0)).y_train
    parts = []
    looks = _LOOKS[request.scale]
    for look in range(1, looks + 1):
        # Denser early, when most is memorized in few steps.
        trainer.advance(round(steps * (look / looks) ** 2))
        on_redrawn = outputs(trainer, data.x_train[redrawn]).argmax(-1) == data.y_train[redrawn]
        on_test = outputs(trainer, data.x_test).argmax(-1) == data.y_test
        parts.append(
            pd.DataFrame(
                {
                    "seed": [run.seed for run in trainer.runs],
                    "noise": [run.learning_rate / (1 - momentum) / batch for run in trainer.runs],
                    "memorized": on_redrawn.double().mean(1).numpy(),
                    "test": on_test.double().mean(1).numpy(),
                    "look": look,
                }
            )
        )
    return pd.concat(parts)
