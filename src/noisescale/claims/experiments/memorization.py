"""Test accuracy over the noise of SGD, for networks that have memorized equally many redrawn labels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from noisescale.claims.criterion import above, within
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.in_process import outputs, pack_trainers, small_spec
from noisescale.claims.panel import Curve, Floats, Panel
from noisescale.claims.provenance import Provenance
from noisescale.claims.statistic import Statistic, over_seeds
from noisescale.datasets import load_dataset
from noisescale.laws import MARGIN
from noisescale.named_inputs import one_tensor

_SEEDS = {"smoke": 4, "laptop": 6}
_WIDTH = {"smoke": 128, "laptop": 256}
_TRAIN_SIZE = {"smoke": 400, "laptop": 1000}
_EPOCHS = {"smoke": 40, "laptop": 120}
_RATES = (0.025, 0.05, 0.1)
_BATCHES = {"smoke": (4, 16), "laptop": (4, 8, 16, 32, 64)}
_LABEL_NOISE = 0.25
_MOMENTUM = 0.9
_MEASUREMENTS = {"smoke": 6, "laptop": 20}
# The regression along training uses memorized accuracies in this range. Below it, no more labels than by chance are
# memorized. Above it, many runs have nearly the same value.
_RANGE = (0.15, 0.95)


def memorization(request: Request) -> Evidence:
    """C4.8: at equal accuracy on redrawn labels, clean test accuracy rises with η/S."""
    planted = request.scale == "smoke"
    points = _plant(request.first_seed) if planted else _train_all(request)
    if request.null:
        points = _exchange_noises(points, np.random.default_rng(request.first_seed))
    ends, along_training = _ends(points), _along_training(points)
    further: tuple[Statistic, ...] = ()
    runs = len(ends)
    if request.scale == "laptop" and not request.null:
        with_momentum = _train_all(request, _MOMENTUM)
        further = _effect_of_momentum(points, with_momentum)
        runs += len(_ends(with_momentum))
    return Evidence(
        statistics=(
            _rise(f"along training, {_RANGE[0]:g} to {_RANGE[1]:g} memorized", along_training),
            _rise("ends of runs", ends),
        ),
        panels=(_memorization_panel(points, ends), _noise_panel(ends)),
        runs=runs,
        setting=f"MLP of width {_WIDTH[request.scale]}, standard parameterization, {_TRAIN_SIZE[request.scale]} "
        f"examples of MNIST-1D, {_LABEL_NOISE:.0%} of labels redrawn; η = {_RATES}, S = {_BATCHES[request.scale]}, "
        f"{_EPOCHS[request.scale]} epochs",
        reported={
            "least memorized accuracy at the end": float(ends.memorized.min()),
            "largest memorized accuracy at the end": float(ends.memorized.max()),
        },
        beside=further,
        provenance=Provenance(planted=("memorization",)) if planted else Provenance(),
    )


def _effect_of_momentum(points: pd.DataFrame, with_momentum: pd.DataFrame) -> tuple[Statistic, ...]:
    """Test the rise with momentum, at the same η/(1 − m), and the difference between runs with and without momentum."""
    both = pd.concat([points.assign(momentum=0.0), with_momentum.assign(momentum=1.0)], ignore_index=True)
    statistics: list[Statistic] = []
    for name, select in (("along training", _along_training), ("ends of runs", _ends)):
        differences = np.array([_coefficients(of_seed, ["momentum"])[1] for _, of_seed in select(both).groupby("seed")])
        statistics += [
            _rise(f"{name}, momentum {_MOMENTUM:g}", select(with_momentum)),
            over_seeds(f"test accuracy with momentum minus test accuracy without: {name}", differences, "fraction",
                       "regression within a seed, given η/(S(1 − m)), memorized accuracy and its square",
                       within(0, MARGIN)),
        ]  # fmt: skip
    return tuple(statistics)


def _ends(points: pd.DataFrame) -> pd.DataFrame:
    ends: pd.DataFrame = points[points.measurement == points.measurement.max()]
    return ends


def _along_training(points: pd.DataFrame) -> pd.DataFrame:
    along_training: pd.DataFrame = points[points.memorized.between(*_RANGE)]
    return along_training


def _rise(name: str, points: pd.DataFrame) -> Statistic:
    values = np.array([_coefficients(of_seed)[0] for _, of_seed in points.groupby("seed")]) * np.log(2)
    convention = "regression within a seed, given memorized accuracy and its square"
    return over_seeds(f"change of test accuracy per doubling of η/S: {name}", values, "fraction", convention, above(0))


def _coefficients(points: pd.DataFrame, columns: Sequence[str] = ()) -> Floats:
    """Regress test accuracy on log noise, further columns and a parabola in memorized accuracy."""
    memorized = points.memorized.to_numpy()
    further_columns = [points[name].to_numpy() for name in columns]
    powers = [np.ones(len(memorized)), memorized, memorized**2]
    design = np.stack([np.log(points.noise.to_numpy()), *further_columns, *powers], 1)
    coefficients: Floats = np.linalg.lstsq(design, points.test.to_numpy(), rcond=None)[0]
    return coefficients


def _exchange_noises(points: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Permute the noises within each seed, for the null."""
    noises = np.sort(points.noise.unique())
    for seed in points.seed.unique():
        rows = points.seed == seed
        exchanged = dict(zip(noises, generator.permutation(noises), strict=True))
        points.loc[rows, "noise"] = points.noise[rows].map(exchanged)
    return points


def _memorization_panel(points: pd.DataFrame, ends: pd.DataFrame) -> Panel:
    """Draw test accuracy over memorized accuracy, at the ends of all runs, and along training for three noises."""
    noises = np.sort(points.noise.unique())
    curves = [Curve("ends of runs, mean of seeds", *_mean_accuracies(ends, "noise"))]
    for noise in noises[[0, len(noises) // 2, -1]]:
        along_training = _mean_accuracies(points[points.noise == noise], "measurement")
        curves.append(Curve(f"along training, η/S = {noise:.2g}", *along_training))
    return Panel("accuracy on redrawn labels, fraction", "clean test accuracy, fraction", tuple(curves))


def _mean_accuracies(points: pd.DataFrame, key: str) -> tuple[Floats, Floats]:
    means = points.groupby(key)[["memorized", "test"]].mean().sort_values("memorized")
    return means.memorized.to_numpy(), means.test.to_numpy()


def _noise_panel(ends: pd.DataFrame) -> Panel:
    mean, spread = (getattr(ends.groupby("noise").test, name)() for name in ("mean", "std"))
    low, high = (mean - spread).to_numpy(), (mean + spread).to_numpy()
    x = mean.index.to_numpy(dtype=np.float64)
    curve = Curve("mean of runs, ± standard deviation", x, mean.to_numpy(), low, high)
    return Panel("η/S", "clean test accuracy at the end, fraction", (curve,), log_x=True)


def _plant(first_seed: int) -> pd.DataFrame:
    """Plant runs whose test accuracy rises with memorized accuracy, and by one point per doubling of the noise."""
    generator = np.random.default_rng(first_seed)
    measurements = _MEASUREMENTS["smoke"]
    grid = itertools.product(range(_SEEDS["smoke"]), [2.0**k for k in range(6)], range(1, measurements + 1))
    points = pd.DataFrame(list(grid), columns=["seed", "noise", "measurement"])
    errors = generator.standard_normal((2, len(points)))
    points["memorized"] = np.clip(points.measurement / measurements - 0.02 + 0.02 * errors[0], 0, 1)
    points["test"] = 0.2 + 0.1 * points.memorized + 0.01 * np.log2(points.noise) + 0.003 * errors[1]
    return points


def _train_all(request: Request, momentum: float = 0.0) -> pd.DataFrame:
    return pd.concat([_train(request, batch, momentum) for batch in _BATCHES[request.scale]], ignore_index=True)


def _train(request: Request, batch: int, momentum: float) -> pd.DataFrame:
    """Train all effective rates η/(1 − m) at one batch size, and return one row per run and measurement."""
    measurements = _MEASUREMENTS[request.scale]
    spec = small_spec(
        "memorization", request.seeds(_SEEDS),
        dataset={"train_size": _TRAIN_SIZE[request.scale], "test_size": 5000, "label_noise": _LABEL_NOISE},
        grid={"width": [_WIDTH[request.scale]], "learning_rate": [rate * (1 - momentum) for rate in _RATES],
              "batch_size": [batch], "momentum": [momentum]},
        training={"epochs": _EPOCHS[request.scale], "evaluations": 2},
    )  # fmt: skip
    (trainer,) = pack_trainers(spec)
    data, steps = trainer.dataset, trainer.runs[0].steps
    redrawn = data.y_train != load_dataset(spec.dataset.options(0.0)).y_train
    measured_points = []
    for measurement in range(1, measurements + 1):
        # Measurements are denser early, when a few steps memorize most labels.
        trainer.advance(round(steps * (measurement / measurements) ** 2))
        on_redrawn = outputs(trainer, one_tensor(data.x_train, data.name)[redrawn]).argmax(-1) == data.y_train[redrawn]
        on_test = outputs(trainer, one_tensor(data.x_test, data.name)).argmax(-1) == data.y_test
        measured_points.append(
            pd.DataFrame(
                {
                    "seed": [run.seed for run in trainer.runs],
                    "noise": [run.learning_rate / (1 - momentum) / batch for run in trainer.runs],
                    "memorized": on_redrawn.double().mean(1).numpy(),
                    "test": on_test.double().mean(1).numpy(),
                    "measurement": measurement,
                }
            )
        )
    return pd.concat(measured_points)
