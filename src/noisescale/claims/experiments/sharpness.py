"""The noise of SGD, and the sharpness of the minima that SGD reaches at constant η/S."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from noisescale.claims.criterion import below
from noisescale.claims.equivalence_tests import Pair, equivalence, worst_level
from noisescale.claims.evidence import Evidence, NotRun, Request
from noisescale.claims.experiments.in_process import small_spec, train_curves
from noisescale.claims.panel import Curve, Floats, Panel, mean_with_deviations
from noisescale.claims.provenance import Provenance
from noisescale.claims.statistic import Statistic, over_seeds
from noisescale.claims.studies.specs import claim_spec
from noisescale.claims.study import ClaimStudy, GpuSweeps, completed_runs, obtain
from noisescale.claims.sweep_runs import by_seed
from noisescale.store import Study
from noisescale.sweeps import SweepSpec

WIDTH = 64
# Rates far below 2/λ_max, so that the edge of stability plays no role. The losses have different rates because their
# curvatures have different scales.
RATES = {"mse": 0.02, "cross_entropy": 0.1}
BATCHES = {"smoke": (4, 8, 16, 32), "laptop": (8, 16, 32, 64)}
# Training examples on which λ_max is measured.
EXAMPLES = 256
_SEEDS = {"smoke": 4, "laptop": 8}
_STEPS = {"smoke": 3000, "laptop": 6000}
# Shares of the training steps at which curvature is measured.
_SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_QUANTITIES = {"smoke": ("lambda_max",), "laptop": ("lambda_max", "hessian_trace")}
# Degree of the polynomial in log loss and log time. As a test, we replaced the curvature of real runs on development
# seeds by t^−0.3/(L − 0.3), which does not depend on the noise. The regression found an effect of noise in 22 of 100
# draws with degree 2, and in 3 of 100 draws with degree 3.
_DEGREE = 3
# Each number divides η at fixed S, or multiplies S at fixed η. Both give the same η/S.
_DIVISORS = (1, 2, 4)


def _deep_networks(first_seed: int) -> list[SweepSpec]:
    spec = claim_spec(
        "gpu-curvature-over-batches", first_seed, 8, dataset={"name": "fashion_mnist"},
        model={"family": "mlp", "depth": 4},
        grid={"parameterization": ["standard"], "width": [128], "learning_rate": [0.02],
              "batch_size": [8, 16, 32, 64]},
        training={"steps": 40_000, "loss": "mse", "evaluations": 10, "sampling": "with_replacement"},
        measure={"quantities": list(_QUANTITIES["laptop"]), "at": list(_SHARES), "examples": 2048},
    )  # fmt: skip
    return [spec]


CURVATURE_OVER_BATCHES = ClaimStudy(
    "MLPs over batch sizes at one learning rate",
    gpu=GpuSweeps(
        _deep_networks,
        "MLPs of four hidden layers of width 128 on Fashion-MNIST, mse, one η and four S, 40,000 steps",
        "We train MLPs of four hidden layers with mse. The paper trains an MLP of 20 layers and ResNet-56 with "
        "cross-entropy. Only the batch varies.",
    ),
)


def flatter_minima(request: Request) -> Evidence:
    """C4.3: λ_max falls with η/S at given training loss and time, at one learning rate with different batches."""
    if request.scale == "gpu":
        if request.null:
            raise NotRun("there is no null experiment at this scale")
        sweeps = obtain(request, CURVATURE_OVER_BATCHES)
        assert isinstance(sweeps.study, Study)
        points = curvature_points(sweeps.study)
        return _evidence({"mse": points}, sweeps.setting, [], sweeps.provenance)
    batches = BATCHES[request.scale]
    points_of = {"mse": _over_batches(request, "mse")}
    further: list[Statistic] = []
    if request.scale == "laptop" and not request.null:
        points_of["cross_entropy"] = _over_batches(request, "cross_entropy")
        points_of["rate"] = _over_rates(request)
        further += worst_level(_only_the_ratio_matters(points_of["mse"], points_of["rate"]))
    setting = (
        f"MLP of width {WIDTH}, standard parameterization, MNIST-1D, mse, η = {RATES['mse']:g}, S = {batches[0]} to "
        f"{batches[-1]}, {_STEPS[request.scale]} steps, measured at shares {_SHARES} of them"
    )
    return _evidence(points_of, setting, further, Provenance())


def curvature_points(study: Study) -> pd.DataFrame:
    """Read the measurements of curvature of a sweep over batches.

    Args:
        study: The stored sweep.

    Returns:
        One row per measurement, with its `noise`, its `share` of the budget and its `seed`.

    Raises:
        NotRun: A run diverged, or a measurement has no result.
    """
    runs = completed_runs(study)
    curves = study.curves().merge(runs[["run_id", "seed", "steps"]], on="run_id")
    curves = curves.assign(noise=curves.learning_rate / curves.batch_size, share=curves.step / curves.steps)
    at_share = np.isclose(curves.share.to_numpy(float)[:, None], _SHARES, atol=1e-9).any(1)
    points: pd.DataFrame = curves[at_share]
    complete = int(points[list(_QUANTITIES["laptop"])].notna().all(axis=1).sum())
    if missing := len(runs) * len(_SHARES) - complete:
        raise NotRun(f"{missing} of {len(runs) * len(_SHARES)} measurements of curvature have no result")
    return points


def _evidence(
    points_of: dict[str, pd.DataFrame], setting: str, further: list[Statistic], provenance: Provenance
) -> Evidence:
    """Build the evidence from the points of each sweep, by name. The criterion applies to the first sweep."""
    deciding, *others = (
        _change_with_noise(name, points, quantity)
        for name, points in points_of.items()
        for quantity in _QUANTITIES["laptop"]
        if quantity in points
    )
    equal_loss = over_seeds(
        "change of log λ_max per doubling of η/S, at equal training loss: mse",
        per_seed(points_of["mse"], at_equal_loss_alone), "nats",
        "interpolated along training; at equal loss, noisier runs have trained for longer", below(0),
    )  # fmt: skip
    last = points_of["mse"][points_of["mse"].share == 1]
    noise = last.groupby("batch_size").noise.mean()
    return Evidence(
        statistics=(deciding,),
        panels=(_noise_panel(last), _loss_panel(points_of["mse"])),
        runs=sum(int((points.share == 1).sum()) for points in points_of.values()),
        setting=setting,
        reported={
            f"ηλ_max at η/S = {noise[batch]:.2g}": float((points.learning_rate * points.lambda_max).mean())
            for batch, points in last.groupby("batch_size")
        },
        beside=(*others, equal_loss, *further),
        provenance=provenance,
    )


def per_seed(
    points: pd.DataFrame, coefficient: Callable[[pd.DataFrame, str], float], quantity: str = "lambda_max"
) -> Floats:
    """Compute a coefficient from the points of each seed.

    Args:
        points: One row per measurement.
        coefficient: Function of the points of one seed and a quantity.
        quantity: The quantity.

    Returns:
        Coefficients, shape [S].
    """
    return np.array([coefficient(part, quantity) for _, part in points.groupby("seed")])


def given_loss_and_time(points: pd.DataFrame, quantity: str) -> float:
    """Regress the log of a quantity on log₂ noise and a polynomial in log loss and log time.

    The coefficient of the noise vanishes if the curvature is a smooth function of loss and time. A regression on ranks,
    or on the loss instead of its log, is not enough. Noisier runs have larger losses, so the residuals of such a
    regression depend on the noise.

    Args:
        points: Measurements of one seed, with the columns `noise`, `train_loss` and `share`, which is the time.
        quantity: The quantity.

    Returns:
        Change of the log per doubling of the noise, in nats.
    """
    loss, time = (_standardize(np.log(points[name].to_numpy(dtype=np.float64))) for name in ("train_loss", "share"))
    powers = [loss**i * time**j for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i)]
    octaves = np.log2(points.noise.to_numpy(dtype=np.float64))
    logs = np.log(points[quantity].to_numpy(dtype=np.float64))
    return float(np.linalg.lstsq(np.stack([octaves, *powers], 1), logs, rcond=None)[0][0])


def at_equal_loss_alone(points: pd.DataFrame, quantity: str) -> float:
    """Regress the log of a quantity on log₂ noise, at a training loss that is reached with every noise.

    Args:
        points: Measurements of one seed. The quantity is interpolated along training.
        quantity: The quantity.

    Returns:
        Change of the log per doubling of the noise, in nats. It is nan if no training loss is reached with every noise.
    """
    curves = {float(str(noise)): part.sort_values("train_loss") for noise, part in points.groupby("noise")}
    low = max(curve.train_loss.min() for curve in curves.values())
    high = min(curve.train_loss.max() for curve in curves.values())
    if not low < high:
        return math.nan
    common_loss = math.sqrt(low * high)
    logs = [np.interp(common_loss, curve.train_loss, np.log(curve[quantity])) for curve in curves.values()]
    return float(np.polyfit(np.log2(list(curves)), logs, 1)[0])


def _standardize(values: Floats) -> Floats:
    standardized: Floats = (values - values.mean()) / values.std()
    return standardized


def _change_with_noise(name: str, points: pd.DataFrame, quantity: str) -> Statistic:
    convention = "regression within a seed, given a cubic in log training loss and log time"
    values = per_seed(points, given_loss_and_time, quantity)
    return over_seeds(f"change of log {quantity} per doubling of η/S: {name}", values, "nats", convention, below(0))


def _only_the_ratio_matters(over_batches: pd.DataFrame, over_rates: pd.DataFrame) -> list[Pair]:
    """Test whether (η/k, S) and (η, kS) have the same λ_max after the same η·steps. The control is a fourfold η/S."""

    def logs(points: pd.DataFrame, divisor: int) -> Floats:
        part = points[np.isclose(points.noise, RATES["mse"] / BATCHES["laptop"][0] / divisor)]
        values = by_seed(part, "share", "lambda_max").to_numpy(dtype=np.float64)
        means: Floats = np.log(values).mean(1)
        return means

    control = logs(over_batches, _DIVISORS[0]) - logs(over_batches, _DIVISORS[-1])
    return [
        equivalence(f"log λ_max, η/{divisor} and S against η and {divisor}·S",
                    logs(over_rates, divisor) - logs(over_batches, divisor), control, "nats")
        for divisor in _DIVISORS[1:]
    ]  # fmt: skip


def _over_batches(request: Request, loss: str) -> pd.DataFrame:
    rate, batches = RATES[loss], BATCHES[request.scale]
    parts = []
    for place, batch in enumerate(batches):
        # In the null experiment, the seeds differ instead of the noise.
        trained_batch, offset = (batches[1], 100 * place) if request.null else (batch, 0)
        points = _train(request, loss, rate, trained_batch, _STEPS[request.scale], offset)
        parts.append(points.assign(noise=rate / batch, batch_size=batch))
    return pd.concat(parts)


def _over_rates(request: Request) -> pd.DataFrame:
    """Train several η at one S for the same time η·steps, and return the measurements."""
    batch, steps = BATCHES["laptop"][0], _STEPS[request.scale]
    parts = []
    for divisor in _DIVISORS:
        rate = RATES["mse"] / divisor
        parts.append(_train(request, "mse", rate, batch, steps * divisor, 0).assign(noise=rate / batch))
    return pd.concat(parts)


def _train(request: Request, loss: str, rate: float, batch: int, steps: int, offset: int) -> pd.DataFrame:
    """Train a pack, and return one row per measurement."""
    quantities = list(_QUANTITIES[request.scale])
    spec = small_spec(
        "flatter", request.seeds(_SEEDS, offset), dataset={"test_size": 1000},
        grid={"width": [WIDTH], "learning_rate": [rate], "batch_size": [batch]},
        training={"steps": steps, "loss": loss, "evaluations": 10},
        measure={"quantities": quantities, "at": list(_SHARES), "examples": EXAMPLES},
    )  # fmt: skip
    curves = train_curves(spec)
    points = curves[curves.step.isin([round(share * steps) for share in _SHARES])]
    if missing := int(points[quantities].isna().any(axis=1).sum()):
        raise NotRun(f"{missing} of {len(points)} measurements of curvature have no result (η = {rate:g}, S = {batch})")
    return points.assign(share=points.step / steps, seed=points.seed - offset)


def _noise_panel(last: pd.DataFrame) -> Panel:
    table = last.pivot(index="noise", columns="seed", values="lambda_max")
    x, logs = table.index.to_numpy(dtype=np.float64), np.log(table.to_numpy(dtype=np.float64))
    curve = mean_with_deviations("geometric mean", x, logs, logs=True)
    return Panel("η/S", "λ_max at the end", (curve,), log_x=True, log_y=True)


def _loss_panel(points: pd.DataFrame) -> Panel:
    curves = []
    for noise, part in points.groupby("noise"):
        means = part.groupby("share")[["train_loss", "lambda_max"]].mean()
        curves.append(Curve(f"η/S = {noise:.2g}", means.train_loss.to_numpy(), means.lambda_max.to_numpy()))
    return Panel("training loss", "λ_max along training", tuple(curves))
