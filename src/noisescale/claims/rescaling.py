"""The experiment on rescaling rate and batch together: at which factor it breaks, and what that has to do with λ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import over_seeds, within
from noisescale.claims.studies import trained
from noisescale.sweeps import SweepSpec

Floats = NDArray[np.float64]

# Of slopes, `docs/verdicts.md`; a quarter of what the control does is the margin of "the same as".
_OF_SLOPES, _OF_CONTROL = 0.25, 0.25
_SEEDS = {"smoke": 8, "laptop": 40}
# Under the standard parameterization λ grows with width, so that 1/(ηλ) moves while η and S stay.
_WIDTHS = (64, 96, 128, 192, 256)
_FACTORS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_RATE, _BATCH, _STEPS, _CONTROL_BATCH = 0.004, 8, 12_000, 2
_TRAIN_SIZE = 4000
# The excess loss of a direction is that of small rates times 2/(2 − βηλ), so that βηλ = 2δ/(1 + δ) where it is 1 + δ
# times as large; four times the noise has three times the excess more, of which the margin is a quarter.
_EXCESS = 3 * _OF_CONTROL
_THEORY = 2 * _EXCESS / (1 + _EXCESS)
_SETTING = (
    f"MLP, one hidden layer of width {_WIDTHS[0]} to {_WIDTHS[-1]}, standard parameterization, mse, MNIST-1D; η = "
    f"{_RATE:g}β, S = {_BATCH}β, {_STEPS * _BATCH // _TRAIN_SIZE} epochs, independent examples, warm-up over 30 %"
)


@dataclass(frozen=True)
class Ladders:
    """What was found of W widths, F factors β and S seeds.

    Arguments:
        loss: [W, F, S], of training at late times, that of a constant output where a run diverged.
        control: [W, S], the same at four times the noise. curvature: [W, S], λ_max at the end of the run at β = 1.
    """

    loss: Floats
    control: Floats
    curvature: Floats

    def without(self, seed: int) -> Ladders:
        """The same without one of the seeds."""
        return Ladders(*(np.delete(own, seed, -1) for own in (self.loss, self.control, self.curvature)))


def breaking(request: Request) -> Evidence:
    """C4.2: the largest β at which (βη, βS) trains as (η, S) does is proportional to 1/(ηλ_ref)."""
    planted = request.scale == "smoke"
    if planted:
        request.planted.append("rescaled")
    found = _planted(request.first_seed) if planted else _trained(request)
    curvature = found.curvature
    if request.null:  # taken out: every width has the λ of another
        curvature = np.roll(curvature, len(_WIDTHS) // 2, 0)
    whole, largest = _slope(found, curvature)
    seeds = curvature.shape[1]
    left = np.array([_slope(found.without(seed), np.delete(curvature, seed, 1))[0] for seed in range(seeds)])
    slopes = seeds * whole - (seeds - 1) * left
    product = largest * _RATE * np.exp(np.log(curvature).mean(1))
    return Evidence(
        (over_seeds("slope of log β_max on log 1/(ηλ_ref)", slopes, "1",
                    "over widths; breaks of mean curves, jackknife pseudo-values of seeds",
                    within(1, _OF_SLOPES)),),
        _panels(found, curvature, largest),
        found.loss.size + found.control.size,
        _SETTING,
        {
            "β_max·ηλ_ref, geometric mean": float(np.exp(np.log(product).mean())),
            "β_max·ηλ_ref, smallest of a width": float(product.min()),
            "β_max·ηλ_ref, largest of a width": float(product.max()),
            "λ_ref of the widest over that of the narrowest": float(curvature.mean(1).max() / curvature.mean(1).min()),
            "widths without a break": float(np.isnan(largest).sum()),
            "four times the noise, relative change of the loss": float(
                (found.control / found.loss[:, 0] - 1).mean()
            ),
        },
    )  # fmt: skip


def _slope(found: Ladders, curvature: Floats) -> tuple[float, Floats]:
    """Slope of log β_max on log 1/(ηλ_ref) over widths, and β_max [W].

    Of mean curves: a seed's own curve does not always reach the margin where the mean one does, and then breaks several
    octaves later.
    """
    margin = _OF_CONTROL * np.abs(found.control - found.loss[:, 0]).mean(1)
    largest = largest_factors(found.loss.mean(2), margin)
    x, y = -np.log(_RATE * curvature).mean(1), np.log(largest)
    away = x - x.mean()
    return float(away @ y / (away @ away)), largest


def largest_factors(loss: Floats, margin: Floats) -> Floats:
    """The factor at which the loss first leaves that at β = 1 by more than a margin, interpolated in log β.

    Arguments:
        loss: [W, F]. margin: [W].
    Returns:
        [W]; nan where the loss never leaves, so that there is no line through what was not found.
    """
    distance = np.abs(loss - loss[:, :1]) / margin[:, None]
    at = np.log(_FACTORS)
    found = np.full(len(loss), math.nan)
    for width, own in enumerate(distance):
        beyond = np.flatnonzero(own > 1)
        if len(beyond):
            last = beyond[0]
            share = (1 - own[last - 1]) / (own[last] - own[last - 1])
            found[width] = at[last - 1] + share * (at[last] - at[last - 1])
    factors: Floats = np.exp(found)
    return factors


def rescaled(first: int) -> list[SweepSpec]:
    """Rate and batch in proportion at equal epochs, and a control at four times the noise and the same steps."""
    shared: dict[str, Any] = {
        "seeds": list(range(first, first + _SEEDS["laptop"])),
        "dataset": {"name": "mnist1d", "train_size": _TRAIN_SIZE, "test_size": 1000},
        "model": {"family": "mlp", "depth": 1},
        "fit": {"extend_edges": False},
        "stability": {"seeds": 0},
    }
    grid = {"parameterization": ["standard"], "width": list(_WIDTHS)}
    # Without warm-up large β would break in the first steps, where λ is that of the initial weights.
    training = {
        "loss": "mse", "sampling": "with_replacement", "evaluations": 12,
        "schedule": {"kind": "constant", "warmup": 0.3},
    }  # fmt: skip
    batches = [_BATCH * factor for factor in _FACTORS]
    ladder = {
        "name": "rescaled",
        "grid": {**grid, "temperature": [_RATE / _BATCH], "batch_size": batches},
        "training": {**training, "epochs": _STEPS * _BATCH / _TRAIN_SIZE},
        "measure": {"quantities": ["lambda_max"], "at": [1.0], "examples": 256},
    }
    control = {
        "name": "rescaled-control",
        "grid": {**grid, "learning_rate": [_RATE], "batch_size": [_CONTROL_BATCH]},
        "training": {**training, "steps": _STEPS},
    }
    return [SweepSpec.from_dict(shared | own, str(own["name"])) for own in (ladder, control)]


def _trained(request: Request) -> Ladders:
    ladder, control = (trained(spec, request) for spec in rescaled(request.first_seed))
    runs = ladder.runs()
    last = ladder.curves().groupby("run_id").lambda_max.last()
    curvature = runs.assign(lambda_max=runs.run_id.map(last))[runs.batch_size == _BATCH]
    losses = _filled(runs).pivot_table(index=["width", "batch_size"], columns="seed", values="train_loss")
    return Ladders(
        losses.to_numpy().reshape(len(_WIDTHS), len(_FACTORS), -1),
        _filled(control.runs()).pivot_table(index="width", columns="seed", values="train_loss").to_numpy(),
        curvature.pivot_table(index="width", columns="seed", values="lambda_max").to_numpy(),
    )


def _filled(runs: pd.DataFrame) -> pd.DataFrame:
    """Diverged runs as no better than a constant output."""
    return runs.assign(train_loss=runs.train_loss.fillna(runs.chance_loss))


def _planted(first: int) -> Ladders:
    """Losses that leave the one at β = 1 where βηλ = 2, with noise, and λ in proportion to width."""
    generator = np.random.default_rng(first)
    seeds = _SEEDS["smoke"]
    widths, factors = np.array(_WIDTHS, dtype=np.float64), np.array(_FACTORS, dtype=np.float64)
    curvature = 0.25 * widths[:, None] * np.exp(0.05 * generator.standard_normal((len(widths), seeds)))
    beyond = np.maximum(0.0, np.log(factors[None, :, None] * _RATE * curvature[:, None] / 2))
    loss = 0.36 - 0.03 * beyond + 5e-4 * generator.standard_normal(beyond.shape)
    return Ladders(loss, np.full((len(widths), seeds), 0.38), curvature)


def _panels(found: Ladders, curvature: Floats, largest: Floats) -> tuple[Panel, Panel]:
    x = np.exp(-np.log(_RATE * curvature).mean(1))
    order = np.argsort(x)
    ends = np.array([x.min(), x.max()])
    factors = np.array(_FACTORS, dtype=np.float64)
    relative = found.loss.mean(2) / found.loss[:, 0].mean(1, keepdims=True)
    return (
        Panel(
            "1/(ηλ_ref)", "β_max",
            (
                Curve("measured, of mean curves", x[order], largest[order]),
                Curve("6/(7ηλ_ref)", ends, _THEORY * ends, kind="theory"),
            ),
            log_x=True, log_y=True,
        ),
        Panel(
            "βηλ_ref", "training loss over that at β = 1",
            tuple(
                Curve(f"width {width}", factors / own, row)
                for width, own, row in zip(_WIDTHS, x, relative, strict=True)
            ),
            log_x=True,
        ),
    )  # fmt: skip
