"""Experiments on the noise of SGD and the curvature where it leads: at constant η/S, and along cycles of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from noisescale.claims.claim import Curve, Evidence, NotRun, Panel, Request
from noisescale.claims.criterion import Statistic, below, over_seeds
from noisescale.claims.trained_here import small_spec, trained_curves

Floats = NDArray[np.float64]

_SEEDS = {"smoke": 4, "laptop": 8}
_WIDTH = 64
# Far below 2/λ_max, so that the edge of stability does not decide; cross-entropy has its own scale of curvature.
_RATE = {"mse": 0.02, "cross_entropy": 0.1}
_BATCHES = {"smoke": (4, 16, 64), "laptop": (8, 16, 32, 64)}
_STEPS = {"smoke": 1500, "laptop": 6000}
_SHARES = (0.4, 0.6, 0.8, 1.0)
_CYCLES = {"smoke": 4, "laptop": 6}
_STEPS_A_CYCLE = {"smoke": 800, "laptop": 2000}
_LOW = 0.125
_QUANTITIES = {"smoke": ("lambda_max",), "laptop": ("lambda_max", "hessian_trace")}
_EXAMPLES = 256


def flatter_minima(request: Request) -> Evidence:
    """C4.3: at equal training loss λ_max falls with η/S, the rate being fixed and the batch varied."""
    batches = _BATCHES[request.scale]
    points = {"mse": _over_batches(request, "mse")}
    if request.scale == "laptop" and not request.null:
        points["cross_entropy"] = _over_batches(request, "cross_entropy")
        points["rate"] = _over_rates(request)
    deciding, *others = (
        _statistic(f"{name}, {quantity}", own, quantity)
        for name, own in points.items()
        for quantity in _QUANTITIES[request.scale]
    )
    last = points["mse"][points["mse"].share == 1]
    noise = last.groupby("batch_size").noise.mean()
    return Evidence(
        (deciding,),
        (_over_noise(last, "lambda_max", "λ_max at the end"), _against_loss(points["mse"])),
        sum(int((own.share == 1).sum()) for own in points.values()),
        f"MLP of width {_WIDTH}, standard parameterization, MNIST-1D, mse, η = {_RATE['mse']:g}, S = "
        f"{batches[0]} to {batches[-1]}, {_STEPS[request.scale]} steps, measured at shares {_SHARES} of them",
        {
            f"ηλ_max at η/S = {noise[batch]:.2g}": _RATE["mse"] * float(own.lambda_max.mean())
            for batch, own in last.groupby("batch_size")
        },
        tuple(others),
    )  # fmt: skip


def cycles(request: Request) -> Evidence:
    """C4.9: λ_max is smaller at the end of the noisy half of a cycle of η/S than at the end of the quiet one."""
    found = {"batch, mse": _along_cycles(request, "mse", "batch_size")}
    if request.scale == "laptop" and not request.null:
        found["rate, mse"] = _along_cycles(request, "mse", "learning_rate")
        found["batch, cross_entropy"] = _along_cycles(request, "cross_entropy", "batch_size")
    deciding, *others = (
        over_seeds(f"log λ_max, noisy less quiet end, {name}", _modulation(own), "nats",
                   "third differences of the ends, mean over cycles", below(0))
        for name, own in found.items()
    )  # fmt: skip
    own = found["batch, mse"]
    means = own.groupby("step")[["lambda_max", "train_loss"]].mean()
    steps = means.index.to_numpy(dtype=np.float64)
    panel = Panel(
        "step", "λ_max",
        (
            Curve("all", steps[1:], means.lambda_max.to_numpy()[1:]),
            Curve("ends of noisy halves", steps[1::2], means.lambda_max.to_numpy()[1::2]),
            Curve("ends of quiet halves", steps[2::2], means.lambda_max.to_numpy()[2::2]),
        ),
    )  # fmt: skip
    return Evidence(
        (deciding,), (panel,), sum(own.number.nunique() for own in found.values()),
        f"MLP of width {_WIDTH}, standard parameterization, MNIST-1D, mse, η = {_RATE['mse']:g}, S = "
        f"{_BATCHES['laptop'][0]} and {_BATCHES['laptop'][-1]} in turn, {_CYCLES[request.scale]} cycles of "
        f"{_STEPS_A_CYCLE[request.scale]} steps",
        {}, tuple(others),
    )  # fmt: skip


def partial_rank_correlation(x: Floats, y: Floats, given: Sequence[Floats]) -> float:
    """Spearman's correlation of what ranks of `given` leave of the ranks of x and of y."""
    design = np.stack([np.ones(len(x)), *map(rankdata, given)], 1)
    ranks = np.stack([rankdata(x), rankdata(y)], 1)
    a, b = (ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]).T
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _statistic(name: str, points: pd.DataFrame, quantity: str) -> Statistic:
    values = np.array(
        [
            partial_rank_correlation(own.noise.to_numpy(), own[quantity].to_numpy(),
                                     [own.train_loss.to_numpy(), own.share.to_numpy()])
            for _, own in points.groupby("seed")
        ]
    )  # fmt: skip
    convention = "within a seed, given training loss and time"
    return over_seeds(f"rank correlation with η/S: {name}", values, "1", convention, below(0))


def _over_batches(request: Request, loss: str) -> pd.DataFrame:
    rate = _RATE[loss]
    parts = []
    for rung, batch in enumerate(_BATCHES[request.scale]):
        # Taken out: other seeds in place of other noise.
        size, shift = (_BATCHES[request.scale][1], 100 * rung) if request.null else (batch, 0)
        points = _measured(request, loss, rate, size, _STEPS[request.scale], shift)
        parts.append(points.assign(noise=rate / batch, batch_size=batch))
    return pd.concat(parts)


def _over_rates(request: Request) -> pd.DataFrame:
    """η varied at a fixed S, for the same time η·steps."""
    batch, steps = _BATCHES["laptop"][0], _STEPS[request.scale]
    return pd.concat(
        _measured(request, "mse", _RATE["mse"] / part, batch, steps * part, 0).assign(noise=_RATE["mse"] / part / batch)
        for part in (1, 2, 4)
    )


def _measured(request: Request, loss: str, rate: float, batch: int, steps: int, shift: int) -> pd.DataFrame:
    """A row a measurement."""
    first = request.first_seed + shift
    spec = small_spec(
        "flatter", range(first, first + _SEEDS[request.scale]), dataset={"test_size": 1000},
        grid={"width": [_WIDTH], "learning_rate": [rate], "batch_size": [batch]},
        training={"steps": steps, "loss": loss, "evaluations": 5},
        measure={"quantities": list(_QUANTITIES[request.scale]), "at": list(_SHARES),
                 "examples": _EXAMPLES},
    )  # fmt: skip
    curves = trained_curves(spec)
    curves = curves[curves.step.isin([round(share * steps) for share in _SHARES])]
    if lacking := int(curves[list(_QUANTITIES[request.scale])].isna().any(axis=1).sum()):
        raise NotRun(f"{lacking} of {len(curves)} measurements of curvature have no result (η = {rate:g}, S = {batch})")
    return curves.assign(share=curves.step / steps, seed=curves.seed - shift)


def _along_cycles(request: Request, loss: str, of: str) -> pd.DataFrame:
    count = _CYCLES[request.scale]
    schedule = {"kind": "cyclic", "cycles": count, "low": _LOW, "of": of}
    if request.null:  # taken out: both halves have the same noise, but for a hundredth
        schedule["low"] = 0.99
    seeds = range(request.first_seed, request.first_seed + _SEEDS[request.scale])
    return trained_curves(
        small_spec(
            "cycles", seeds, dataset={"test_size": 1000},
            grid={"width": [_WIDTH], "learning_rate": [_RATE[loss]],
                  "batch_size": [_BATCHES["laptop"][0]]},
            training={"steps": count * _STEPS_A_CYCLE[request.scale], "loss": loss, "evaluations": 2 * count,
                      "schedule": schedule},
            measure={"quantities": ["lambda_max"], "at": [half / (2 * count) for half in range(2 * count + 1)],
                     "examples": _EXAMPLES},
        )
    )  # fmt: skip


def _modulation(curves: pd.DataFrame) -> Floats:
    """Of each seed, from the end of the first cycle on, by third differences: a drift that bends counts for nothing."""
    logs = np.log(curves.pivot(index="number", columns="step", values="lambda_max").to_numpy(dtype=np.float64))[:, 2:]
    thirds = (3 * (logs[:, 1:-2] - logs[:, 2:-1]) + logs[:, 3:] - logs[:, :-3]) / 4
    # The first begins at a quiet end, and the sign of every second is turned.
    found: Floats = (thirds * (-1.0) ** np.arange(thirds.shape[1])).mean(1)
    return found


def _over_noise(last: pd.DataFrame, quantity: str, label: str) -> Panel:
    table = last.pivot(index="noise", columns="seed", values=quantity)
    x, logs = table.index.to_numpy(dtype=np.float64), np.log(table.to_numpy(dtype=np.float64))
    mean, spread = logs.mean(1), logs.std(1, ddof=1)
    own = Curve("± standard deviation of seeds", x, np.exp(mean), np.exp(mean - spread), np.exp(mean + spread))
    return Panel("η/S", label, (own,), log_x=True, log_y=True)


def _against_loss(points: pd.DataFrame) -> Panel:
    curves = []
    for noise, own in points.groupby("noise"):
        means = own.groupby("share")[["train_loss", "lambda_max"]].mean()
        curves.append(Curve(f"η/S = {noise:.2g}", means.train_loss.to_numpy(), means.lambda_max.to_numpy()))
    return Panel("training loss", "λ_max along training", tuple(curves))
