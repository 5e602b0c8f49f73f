"""Learning rate and batch size multiplied by one factor β: the largest β that does not change training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from noisescale.claims.criterion import within
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.panel import Curve, Floats, Panel
from noisescale.claims.provenance import Provenance
from noisescale.claims.statistic import over_seeds
from noisescale.claims.studies.specs import claim_spec
from noisescale.claims.study import ClaimStudy, obtain
from noisescale.claims.sweep_runs import SweepRuns
from noisescale.store import Study
from noisescale.sweeps import SweepSpec

# Margins of `docs/verdicts.md`: 0.25 for slopes, and a quarter of the control for two settings that should agree.
_PROPORTIONAL, _SHARE_OF_CONTROL = within(1, 0.25), 0.25
_SEEDS = {"smoke": 8, "laptop": 40}
# In the standard parameterization λ grows with width, so that 1/(ηλ) varies at fixed η and S.
_WIDTHS = (64, 96, 128, 192, 256)
_FACTORS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_RATE, _BATCH, _STEPS, _CONTROL_BATCH = 0.004, 8, 12_000, 2
_TRAIN_SIZE = 4000
# The excess loss of a direction is 2/(2 − βηλ) times the excess loss at small rates. This ratio is 1 + δ at
# βηλ = 2δ/(1 + δ). Four times the noise adds three times the excess, and the margin is a quarter of this addition.
_EXCESS = 3 * _SHARE_OF_CONTROL
_THEORY = 2 * _EXCESS / (1 + _EXCESS)


@dataclass(frozen=True)
class RescaledRuns:
    """Runs of W widths, F factors β and S seeds.

    Args:
        loss: Training loss late in training, shape [W, F, S]. A diverged run has the loss of a constant output.
        control: Training loss late in training at four times the noise, shape [W, S].
        curvature: λ_max at the end of the run at β = 1, shape [W, S].
    """

    loss: Floats
    control: Floats
    curvature: Floats

    def without(self, seed: int) -> RescaledRuns:
        """Leave out one seed.

        Args:
            seed: Index of the seed, from 0.
        """
        return RescaledRuns(*(np.delete(values, seed, -1) for values in (self.loss, self.control, self.curvature)))

    def with_exchanged_curvature(self) -> RescaledRuns:
        """Give every width the curvature of another width."""
        return RescaledRuns(self.loss, self.control, np.roll(self.curvature, len(_WIDTHS) // 2, 0))


def _specs(first_seed: int) -> list[SweepSpec]:
    """Build the spec of the rescaled runs at equal epochs, and the spec of a control at four times the noise."""
    dataset = {"name": "mnist1d", "train_size": _TRAIN_SIZE, "test_size": 1000}
    model = {"family": "mlp", "depth": 1}
    grid: dict[str, Any] = {"parameterization": ["standard"], "width": list(_WIDTHS)}
    # Without warm-up, training at large β would change in the first steps, where λ is still λ at initialization.
    training = {
        "loss": "mse", "sampling": "with_replacement", "evaluations": 12,
        "schedule": {"kind": "constant", "warmup": 0.3},
    }  # fmt: skip
    rescaled = claim_spec(
        "rescaled", first_seed, _SEEDS["laptop"], dataset=dataset, model=model,
        grid={**grid, "temperature": [_RATE / _BATCH], "batch_size": [_BATCH * factor for factor in _FACTORS]},
        training={**training, "epochs": _STEPS * _BATCH / _TRAIN_SIZE},
        measure={"quantities": ["lambda_max"], "at": [1.0], "examples": 256},
    )  # fmt: skip
    control = claim_spec(
        "rescaled-control", first_seed, _SEEDS["laptop"], dataset=dataset, model=model,
        grid={**grid, "learning_rate": [_RATE], "batch_size": [_CONTROL_BATCH]},
        training={**training, "steps": _STEPS},
    )  # fmt: skip
    return [rescaled, control]


RESCALED = ClaimStudy(
    f"MLP, one hidden layer of width {_WIDTHS[0]} to {_WIDTHS[-1]}, standard parameterization, mse, MNIST-1D; η = "
    f"{_RATE:g}β, S = {_BATCH}β, {_STEPS * _BATCH // _TRAIN_SIZE} epochs, independent examples, warm-up over 30%",
    _specs,
)


def largest_factor(request: Request) -> Evidence:
    """C4.2: the largest β for which (βη, βS) trains like (η, S) is proportional to 1/(ηλ_ref)."""
    if request.scale == "smoke":
        runs, provenance = _plant(request.first_seed), Provenance(planted=("rescaled",))
    else:
        sweeps = obtain(request, RESCALED)
        runs, provenance = _read(sweeps), sweeps.provenance
    if request.null:  # in the null experiment, every width has the λ of another width
        runs = runs.with_exchanged_curvature()
    seeds, curvature = runs.curvature.shape[1], runs.curvature
    slope, factors = _slope(runs)
    leave_one_out = np.array([_slope(runs.without(seed))[0] for seed in range(seeds)])
    pseudo_values = seeds * slope - (seeds - 1) * leave_one_out
    product = factors * _RATE * np.exp(np.log(curvature).mean(1))
    return Evidence(
        statistics=(
            over_seeds("slope of log β_max on log 1/(ηλ_ref)", pseudo_values, "1",
                       "over widths; β_max from mean curves; jackknife pseudo-values of seeds", _PROPORTIONAL),
        ),
        panels=_panels(runs, factors),
        runs=runs.loss.size + runs.control.size,
        setting=RESCALED.setting,
        reported={
            "β_max·ηλ_ref, geometric mean": float(np.exp(np.log(product).mean())),
            "β_max·ηλ_ref, smallest over widths": float(product.min()),
            "β_max·ηλ_ref, largest over widths": float(product.max()),
            "λ_ref of the widest over that of the narrowest": float(curvature.mean(1).max() / curvature.mean(1).min()),
            "widths without a β_max": float(np.isnan(factors).sum()),
            "relative change of the loss at four times the noise": float((runs.control / runs.loss[:, 0] - 1).mean()),
        },
        provenance=provenance,
    )  # fmt: skip


def _slope(runs: RescaledRuns) -> tuple[float, Floats]:
    """Return the slope of log β_max on log 1/(ηλ_ref) over widths, and β_max, shape [W].

    β_max comes from the mean curve of the seeds, because the curve of a single seed can cross the margin several
    doublings later than the mean curve.
    """
    margin = _SHARE_OF_CONTROL * np.abs(runs.control - runs.loss[:, 0]).mean(1)
    factors = largest_factors(runs.loss.mean(2), margin)
    x, y = -np.log(_RATE * runs.curvature).mean(1), np.log(factors)
    centered = x - x.mean()
    return float(centered @ y / (centered @ centered)), factors


def largest_factors(loss: Floats, margin: Floats) -> Floats:
    """Return the factor at which the loss first differs from the loss at β = 1 by the margin, interpolated in log β.

    Args:
        loss: Loss by width and factor, shape [W, F].
        margin: Largest difference that counts as equal, shape [W].

    Returns:
        Factors, shape [W]. A factor is nan if the loss never differs by the margin, so that no line can be fitted.
    """
    distance = np.abs(loss - loss[:, :1]) / margin[:, None]
    log_factors = np.log(_FACTORS)
    log_largest = np.full(len(loss), math.nan)
    for width, row in enumerate(distance):
        crossings = np.flatnonzero(row > 1)
        if len(crossings):
            after, before = crossings[0], crossings[0] - 1
            share = (1 - row[before]) / (row[after] - row[before])
            log_largest[width] = log_factors[before] + share * (log_factors[after] - log_factors[before])
    factors: Floats = np.exp(log_largest)
    return factors


def _read(sweeps: SweepRuns) -> RescaledRuns:
    rescaled, control = sweeps.studies
    assert isinstance(rescaled, Study)
    runs = rescaled.runs()
    last = rescaled.curves().groupby("run_id").lambda_max.last()
    curvature = runs.assign(lambda_max=runs.run_id.map(last))[runs.batch_size == _BATCH]
    losses = _with_chance(runs).pivot_table(index=["width", "batch_size"], columns="seed", values="train_loss")
    return RescaledRuns(
        losses.to_numpy().reshape(len(_WIDTHS), len(_FACTORS), -1),
        _with_chance(control.runs()).pivot_table(index="width", columns="seed", values="train_loss").to_numpy(),
        curvature.pivot_table(index="width", columns="seed", values="lambda_max").to_numpy(),
    )


def _with_chance(runs: pd.DataFrame) -> pd.DataFrame:
    """Give diverged runs the loss of a constant output."""
    return runs.assign(train_loss=runs.train_loss.fillna(runs.chance_loss))


def _plant(first_seed: int) -> RescaledRuns:
    """Plant λ in proportion to width, and noisy losses that differ from the loss at β = 1 if βηλ > 2."""
    generator = np.random.default_rng(first_seed)
    seeds = _SEEDS["smoke"]
    widths, factors = np.array(_WIDTHS, dtype=np.float64), np.array(_FACTORS, dtype=np.float64)
    curvature = 0.25 * widths[:, None] * np.exp(0.05 * generator.standard_normal((len(widths), seeds)))
    excess = np.maximum(0.0, np.log(factors[None, :, None] * _RATE * curvature[:, None] / 2))
    loss = 0.36 - 0.03 * excess + 5e-4 * generator.standard_normal(excess.shape)
    return RescaledRuns(loss, np.full((len(widths), seeds), 0.38), curvature)


def _panels(runs: RescaledRuns, factors: Floats) -> tuple[Panel, Panel]:
    x = np.exp(-np.log(_RATE * runs.curvature).mean(1))
    order, ends = np.argsort(x), np.array([x.min(), x.max()])
    relative = runs.loss.mean(2) / runs.loss[:, 0].mean(1, keepdims=True)
    largest = (
        Curve("measured, from mean curves", x[order], factors[order]),
        Curve("6/(7ηλ_ref)", ends, _THEORY * ends, kind="theory"),
    )
    losses = tuple(
        Curve(f"width {width}", np.array(_FACTORS, dtype=np.float64) / position, curve)
        for width, position, curve in zip(_WIDTHS, x, relative, strict=True)
    )
    return (
        Panel("1/(ηλ_ref)", "β_max", largest, log_x=True, log_y=True),
        Panel("βηλ_ref", "training loss / training loss at β = 1", losses, log_x=True),
    )
