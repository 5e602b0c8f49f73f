"""Experiments on the noise of SGD and the curvature where it leads: at constant η/S, and along cycles of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.claims.agreement import farthest_level
from noisescale.claims.claim import Curve, Evidence, NotRun, Panel, Request
from noisescale.claims.criterion import Statistic, below, over_seeds, same
from noisescale.claims.gpu_studies import SHARES_OF_CURVATURE
from noisescale.claims.studies import completed, trained_at_gpu
from noisescale.claims.trained_here import small_spec, trained_curves
from noisescale.store import Study

Floats = NDArray[np.float64]

_SEEDS = {"smoke": 4, "laptop": 8}
_WIDTH = 64
# Far below 2/λ_max, so that the edge of stability does not decide; cross-entropy has its own scale of curvature.
_RATE = {"mse": 0.02, "cross_entropy": 0.1}
_BATCHES = {"smoke": (4, 8, 16, 32), "laptop": (8, 16, 32, 64)}
_STEPS = {"smoke": 3000, "laptop": 6000}
_SHARES = SHARES_OF_CURVATURE
# Of the polynomial in log loss and log time: with 2, a curvature t^−0.3/(L − 0.3) of the losses of real runs, seeds of
# development, was taken for an effect of noise in 22 of 100 draws, with 3 in 3 of them.
_DEGREE = 3
# Divisors of η at a fixed S, or factors of S at a fixed η: the same η/S.
_PARTS = (1, 2, 4)
_CYCLES = {"smoke": 4, "laptop": 6}
_STEPS_A_CYCLE = {"smoke": 800, "laptop": 2000}
_LOW = 0.125
_QUANTITIES = {"smoke": ("lambda_max",), "laptop": ("lambda_max", "hessian_trace")}
_EXAMPLES = 256


def flatter_minima(request: Request) -> Evidence:
    """C4.3: given training loss and time λ_max falls with η/S, the rate being fixed and the batch varied."""
    if request.scale == "gpu":
        if request.null:
            raise NotRun("no null at this scale")
        (study,) = trained_at_gpu(request, "curvature_over_batches")
        return _evidence({"mse": points_of(study)}, "MLP on Fashion-MNIST, mse, one η, S varied", [])
    batches = _BATCHES[request.scale]
    points = {"mse": _over_batches(request, "mse")}
    beside: list[Statistic] = []
    if request.scale == "laptop" and not request.null:
        points["cross_entropy"] = _over_batches(request, "cross_entropy")
        points["rate"] = _over_rates(request)
        beside += farthest_level(_only_the_ratio(points["mse"], points["rate"]))
    setting = (
        f"MLP of width {_WIDTH}, standard parameterization, MNIST-1D, mse, η = {_RATE['mse']:g}, S = {batches[0]} to "
        f"{batches[-1]}, {_STEPS[request.scale]} steps, measured at shares {_SHARES} of them"
    )
    return _evidence(points, setting, beside)


def points_of(study: Study) -> pd.DataFrame:
    """A row a measurement of curvature of a sweep over batches, with its `noise`, `share` of the budget and `seed`.

    Raises:
        NotRun: a run diverged, or a measurement has no result.
    """
    runs = completed(study)
    own = study.curves().merge(runs[["run_id", "seed", "steps"]], on="run_id")
    own = own.assign(noise=own.learning_rate / own.batch_size, share=own.step / own.steps)
    measured: pd.DataFrame = own[np.isclose(own.share.to_numpy(float)[:, None], _SHARES, atol=1e-9).any(1)]
    names = list(_QUANTITIES["laptop"])
    if lacking := len(runs) * len(_SHARES) - int(measured[names].notna().all(axis=1).sum()):
        raise NotRun(f"{lacking} of {len(runs) * len(_SHARES)} measurements of curvature have no result")
    return measured


def _evidence(points: dict[str, pd.DataFrame], setting: str, beside: list[Statistic]) -> Evidence:
    """From points by the name of their sweep, of which the first decides."""
    deciding, *others = (
        _statistic(f"{name}, {quantity}", own, quantity)
        for name, own in points.items()
        for quantity in _QUANTITIES["laptop"]
        if quantity in own
    )
    at_equal_loss = over_seeds(
        "log λ_max, an octave of η/S, at equal training loss alone: mse", per_seed(points["mse"], at_equal_loss_alone),
        "nats", "interpolated along training; noisier runs are older there", below(0),
    )  # fmt: skip
    last = points["mse"][points["mse"].share == 1]
    noise = last.groupby("batch_size").noise.mean()
    return Evidence(
        (deciding,),
        (_over_noise(last, "lambda_max", "λ_max at the end"), _against_loss(points["mse"])),
        sum(int((own.share == 1).sum()) for own in points.values()), setting,
        {
            f"ηλ_max at η/S = {noise[batch]:.2g}": float((own.learning_rate * own.lambda_max).mean())
            for batch, own in last.groupby("batch_size")
        },
        (*others, at_equal_loss, *beside),
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


def per_seed(points: pd.DataFrame, coefficient: Callable[[pd.DataFrame, str], float], of: str = "lambda_max") -> Floats:
    """[S], a coefficient of each seed's own points."""
    return np.array([coefficient(own, of) for _, own in points.groupby("seed")])


def given_loss_and_time(points: pd.DataFrame, quantity: str) -> float:
    """Change of the log of a quantity for each octave of noise, beside a polynomial in log loss and log time.

    A curvature that is any smooth function of loss and time has none. Ranks, or the loss itself, do not do: what they
    leave of such a curvature goes with the noise, since noisier runs have larger losses.

    Arguments:
        points: of one seed, with `noise`, `train_loss` and `share`, the time.
    """
    a, t = (_standardized(np.log(points[name].to_numpy(dtype=np.float64))) for name in ("train_loss", "share"))
    powers = [a**i * t**j for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i)]
    octaves = np.log2(points.noise.to_numpy(dtype=np.float64))
    logs = np.log(points[quantity].to_numpy(dtype=np.float64))
    return float(np.linalg.lstsq(np.stack([octaves, *powers], 1), logs, rcond=None)[0][0])


def at_equal_loss_alone(points: pd.DataFrame, quantity: str) -> float:
    """The same where every noise has the same training loss, interpolated along training; nan where none is shared."""
    curves = {float(str(noise)): own.sort_values("train_loss") for noise, own in points.groupby("noise")}
    low = max(own.train_loss.min() for own in curves.values())
    high = min(own.train_loss.max() for own in curves.values())
    if not low < high:
        return math.nan
    at = math.sqrt(low * high)
    logs = [np.interp(at, own.train_loss, np.log(own[quantity])) for own in curves.values()]
    return float(np.polyfit(np.log2(list(curves)), logs, 1)[0])


def _standardized(values: Floats) -> Floats:
    found: Floats = (values - values.mean()) / values.std()
    return found


def _statistic(name: str, points: pd.DataFrame, quantity: str) -> Statistic:
    convention = "regression within a seed, given a cubic in log training loss and log time"
    values = per_seed(points, given_loss_and_time, quantity)
    return over_seeds(f"log {quantity}, an octave of η/S: {name}", values, "nats", convention, below(0))


def _only_the_ratio(over_batches: pd.DataFrame, over_rates: pd.DataFrame) -> list[tuple[Statistic, Statistic]]:
    """Whether λ_max is the same for η/k and S as for η and kS, beside η/S × 4, after the same η·steps."""

    def logs(points: pd.DataFrame, part: int) -> Floats:
        own = points[np.isclose(points.noise, _RATE["mse"] / _BATCHES["laptop"][0] / part)]
        table = own.pivot(index="seed", columns="share", values="lambda_max").sort_index()
        found: Floats = np.log(table.to_numpy(dtype=np.float64)).mean(1)
        return found

    control = logs(over_batches, _PARTS[0]) - logs(over_batches, _PARTS[-1])
    return [
        same(f"log λ_max, η/{part} and S against η and {part}·S", logs(over_rates, part) - logs(over_batches, part),
             control, "nats")
        for part in _PARTS[1:]
    ]  # fmt: skip


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
        for part in _PARTS
    )


def _measured(request: Request, loss: str, rate: float, batch: int, steps: int, shift: int) -> pd.DataFrame:
    """A row a measurement."""
    first = request.first_seed + shift
    spec = small_spec(
        "flatter", range(first, first + _SEEDS[request.scale]), dataset={"test_size": 1000},
        grid={"width": [_WIDTH], "learning_rate": [rate], "batch_size": [batch]},
        training={"steps": steps, "loss": loss, "evaluations": 10},
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
