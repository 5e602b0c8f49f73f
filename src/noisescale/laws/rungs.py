"""The ladder of batch sizes of a recommendation, each with its learning rate, and the choice among them."""

from __future__ import annotations

import math

import numpy as np

from noisescale.errors import BadInput
from noisescale.estimate import Estimate
from noisescale.families import Normalization
from noisescale.laws.fitting import STABILITY_SHARE
from noisescale.laws.largest_batch import EdgeByBatch
from noisescale.laws.recommendation import Rung
from noisescale.laws.results import Series
from noisescale.noise_laws import NOISE_SCALE, SGD_NOISE
from noisescale.store import Study


def training_time(series: Series, metric: str, width: float) -> float:
    """Return ε·steps of the cell nearest to the optimum, at the trained width nearest to this one.

    Args:
        series: The ladders over widths.
        metric: The metric of the optimum.
        width: Any width.

    Returns:
        ε·steps; NaN without an optimum.
    """
    known = [row for row in series.widths if metric in row.optima and row.optima[metric].curve.found]
    if not known:
        return math.nan
    row = min(known, key=lambda row: abs(math.log(row.width / width)))
    place = series.quantity if series.quantity == "learning_rate" else "noise_scale"
    optimum = getattr(row.optima[metric], place).value
    cell = min(row.cells, key=lambda cell: abs(math.log(getattr(cell, place) / optimum)))
    return cell.learning_rate * cell.steps


def passes(series: Series) -> float:
    """Return the largest number of whole passes over the training set that the cells share."""
    row = series.widths[-1]
    return max(cell.steps / (row.train_size // cell.batch_size) for cell in row.cells)


def batch_ladder(train_size: int) -> list[int]:
    """Return whole numbers near the powers of √2, up to half of the training set."""
    powers = range(2 * int(math.log2(max(train_size, 2))) + 1)
    sizes = sorted({round(2 ** (power / 2)) for power in powers})
    return [size for size in sizes if size <= max(train_size // 2, 1)]


def trainable(batches: list[int], study: Study, given: bool) -> list[int]:
    """Keep the batch sizes that the study's normalization allows.

    Args:
        batches: Batch sizes, in examples.
        study: The study, whose spec names the normalization.
        given: Whether the user asked for this batch size.

    Returns:
        The allowed sizes, or all of them if none is allowed.

    Raises:
        BadInput: The batch size that the user asked for is not allowed.
    """
    model = study.spec.get("model") or {}
    sizes = {name: model[name] for name in ("groups", "ghost_size") if model.get(name) is not None}
    normalization = Normalization(model.get("normalization", "none"), **sizes)
    allowed = [size for size in batches if normalization.batch_fault(size) is None]
    if given and not allowed:
        raise BadInput("batch_size", str(normalization.batch_fault(batches[0])), batches[0])
    return allowed or batches


def rung_of_noise(
    batch: int, noise: Estimate, edge: EdgeByBatch | None, time: float, epochs: float, train_size: int,
    momentum: float, replacement: bool,
) -> Rung:  # fmt: skip
    """Return the learning rate at which a batch size has a noise scale.

    Args:
        batch: B, in examples.
        noise: The noise scale g.
        edge: The stability edge at the width; None where none was measured.
        time: The training time ε·steps to keep.
        epochs: The passes to keep instead where the study held them fixed, else NaN.
        train_size: N, in examples.
        momentum: m.
        replacement: Whether batches are drawn with replacement.

    Returns:
        The rung.
    """
    factor = SGD_NOISE.per_rate(NOISE_SCALE.name, float(batch), train_size, momentum, replacement=replacement)
    rate = exponential(noise, -math.log(factor), "1", f"ε at B = {batch}")
    # Where the study held epochs fixed, its optimum holds at that number of them; elsewhere at its training time.
    steps = epochs * (train_size // batch) if math.isfinite(epochs) else time / rate.value
    return _rung(batch, rate, edge, steps)


def rung_of_rate(series: Series, rate: Estimate, edge: EdgeByBatch | None) -> Rung:
    """Return the best learning rate at the batch size of a series, for an optimizer without a noise scale.

    Args:
        series: A series with a fixed batch size.
        rate: The best rate at the width asked for.
        edge: The stability edge at that width; None where none was measured.

    Returns:
        The rung, with the steps of the series' cells: the same batch and steps are the same examples.
    """
    return _rung(round(series.fixed_value), rate, edge, max(row.steps for row in series.widths))


def _rung(batch: int, rate: Estimate, edge: EdgeByBatch | None, steps: float) -> Rung:
    limit = edge.at(batch) if edge else Estimate(math.nan, math.nan, math.nan, "learning rate", "not measured")
    stable = None if edge is None else rate.value <= STABILITY_SHARE * limit.value and rate.high <= limit.value
    steps = round(steps) if math.isfinite(steps) else 0
    return Rung(batch, rate, limit, max(steps, 1), stable)


def exponential(estimate: Estimate, shift: float, unit: str, convention: str) -> Estimate:
    """Return the estimate times exp(shift); open ends stay open."""
    factor = math.exp(shift)
    return Estimate(estimate.value * factor, estimate.low * factor, estimate.high * factor, unit, convention)


def choose_rung(ladder: tuple[Rung, ...], series: Series, warnings: list[str]) -> Rung:
    """Choose the largest stable batch; where none is known to be stable, the most careful one, with a warning.

    Args:
        ladder: The rungs, in increasing order of batch size.
        series: The ladders over widths, for the rates that were trained.
        warnings: Receives what a user must know.

    Returns:
        The chosen rung.
    """
    if len(ladder) == 1:
        if ladder[0].learning_rate.value > ladder[0].stability_edge.value:
            warnings.append("at this batch size the rate lies above the stability edge: training is expected to fail")
        elif ladder[0].stable is False:
            warnings.append("at this batch size the rate, or its interval, is not safely below the stability edge")
        if ladder[0].stable is None:
            warnings.append(
                "no stability edge was measured: whether the rate is stable at this batch size is not known"
            )
        return ladder[0]
    stable = [rung for rung in ladder if rung.stable]
    if stable:
        return stable[-1]
    if ladder[0].stable is None:
        tried = [cell.learning_rate for row in series.widths for cell in row.cells if cell.usable]
        limit = max(tried, default=math.inf)
        within = [rung for rung in ladder if rung.learning_rate.value <= limit * (1 + 1e-9)]
        warnings.append(
            f"no stability edge: the batch is the largest whose rate is at most {limit:g}, trained without failure"
        )
        return (within or list(ladder[:1]))[-1]
    half = [rung for rung in ladder if rung.learning_rate.value <= STABILITY_SHARE * rung.stability_edge.value]
    if half:
        warnings.append("the rate is below half of the stability edge, but its interval reaches beyond the edge")
        return half[-1]
    warnings.append("the noise scale is out of reach below half of the stability edge, even at a batch of one")
    return ladder[0]


def log_ratio_at(series: Series, width: float) -> float:
    """Return log(ḡ/g) at a width, from its straight line over log width (its slope is 0 or 1 in the known tables)."""
    places = np.log([row.width for row in series.widths])
    ratios = np.array([row.log_ratio for row in series.widths])
    if places.size < 2:
        return float(ratios[0])
    slope, intercept = np.polyfit(places, ratios, 1)
    return float(intercept + slope * math.log(width))
