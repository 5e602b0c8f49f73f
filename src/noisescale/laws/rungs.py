"""The rungs of a recommendation, each a batch size with its learning rate, and the choice of a rung."""

from __future__ import annotations

import math

import numpy as np

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, no_estimate
from noisescale.laws.batch_faults import batch_fault_of
from noisescale.laws.edge_by_batch import EdgeByBatch
from noisescale.laws.fitting import STABILITY_SHARE
from noisescale.laws.recommendation import Rung
from noisescale.laws.results import Series
from noisescale.noise_laws import NOISE_SCALE, SGD_NOISE
from noisescale.store import Study


def training_time(series: Series, metric: str, width: float) -> float:
    """Return ε·steps of the cell nearest to the optimum, at the trained width nearest to `width`.

    Args:
        series: Series, with one ladder of learning rates or batch sizes for each width.
        metric: Metric of the optimum.
        width: Any width.

    Returns:
        The training time ε·steps; NaN without an optimum.
    """
    located = [row for row in series.widths if metric in row.optima and row.optima[metric].curve.has_value]
    if not located:
        return math.nan
    row = min(located, key=lambda row: abs(math.log(row.width / width)))
    quantity = series.quantity if series.quantity == "learning_rate" else "noise_scale"
    optimum = getattr(row.optima[metric], quantity).value
    cell = min(row.cells, key=lambda cell: abs(math.log(getattr(cell, quantity) / optimum)))
    return cell.learning_rate * cell.steps


def epochs_of(series: Series) -> float:
    """Return the largest number of epochs among the cells of the largest width."""
    row = series.widths[-1]
    return max(cell.steps / (row.train_size // cell.batch_size) for cell in row.cells)


def candidate_batches(train_size: int) -> list[int]:
    """Return batch sizes near the powers of √2, up to half of the training set, in examples."""
    powers = range(2 * int(math.log2(max(train_size, 2))) + 1)
    sizes = sorted({round(2 ** (power / 2)) for power in powers})
    return [size for size in sizes if size <= max(train_size // 2, 1)]


def trainable(batches: list[int], study: Study, given: bool) -> list[int]:
    """Keep the batch sizes on which the study's model can be trained.

    Args:
        batches: Batch sizes, in examples.
        study: Study of the model.
        given: True if the user asked for this batch size.

    Returns:
        The allowed batch sizes, or all batch sizes if none is allowed.

    Raises:
        BadInput: The batch size that the user asked for is not allowed.
    """
    fault = batch_fault_of(study, given)
    allowed = [size for size in batches if fault(size) is None]
    if given and not allowed:
        raise BadInput("batch_size", str(fault(batches[0])), batches[0])
    return allowed or batches


def rung_of_noise(
    batch: int, noise: Estimate, edge: EdgeByBatch | None, time: float, epochs: float, train_size: int,
    momentum: float, replacement: bool,
) -> Rung:  # fmt: skip
    """Return the rung whose learning rate gives the target noise scale at a batch size.

    Args:
        batch: Batch size B, in examples.
        noise: Target noise scale g.
        edge: Stability edge at the width; None if not measured.
        time: Training time ε·steps to keep.
        epochs: Number of epochs to keep instead of the training time, if the study fixed the epochs; NaN otherwise.
        train_size: Training set size N, in examples.
        momentum: Momentum m.
        replacement: Whether batches are drawn with replacement.

    Returns:
        The rung.

    Raises:
        BadInput: The batch is the whole training set, drawn without replacement, and has no gradient noise.
    """
    rate_of_unit = SGD_NOISE.rate(NOISE_SCALE.name, 1.0, float(batch), train_size, momentum, replacement=replacement)
    rate = scaled(noise, math.log(rate_of_unit), "1", f"ε at B = {batch}")
    # An optimum measured at a fixed number of epochs holds at that number. Other optima hold at their training time.
    steps = epochs * (train_size // batch) if math.isfinite(epochs) else time / rate.value
    return _rung(batch, rate, edge, steps)


def rung_of_rate(series: Series, rate: Estimate, edge: EdgeByBatch | None) -> Rung:
    """Return the rung at the batch size of a series, for an optimizer without a noise scale.

    Args:
        series: Series with a fixed batch size.
        rate: Best learning rate at the target width.
        edge: Stability edge at the target width; None if not measured.

    Returns:
        The rung, with the largest number of steps in the series. At the same batch size, equal steps mean equal
        examples.
    """
    return _rung(round(series.fixed_value), rate, edge, max(row.steps for row in series.widths))


def _rung(batch: int, rate: Estimate, edge: EdgeByBatch | None, steps: float) -> Rung:
    limit = edge.at(batch) if edge else no_estimate("learning rate", "not measured")
    # A trained cell has no interval.
    highest = rate.high if not math.isnan(rate.high) else rate.value
    stable = None if edge is None else rate.value <= STABILITY_SHARE * limit.value and highest <= limit.value
    steps = round(steps) if math.isfinite(steps) else 0
    return Rung(batch, rate, limit, max(steps, 1), stable)


def scaled(estimate: Estimate, log_factor: float, unit: str, convention: str) -> Estimate:
    """Return the estimate times exp(log_factor); infinite ends stay infinite."""
    factor = math.exp(log_factor)
    return Estimate(estimate.value * factor, estimate.low * factor, estimate.high * factor, unit, convention)


# Up to this share of the stability edge, a larger rate with a larger batch cost no accuracy at equal noise and equal
# ε·steps; at 0.4 it cost 0.8 percentage points and at half of the edge 2 (ten seeds, the quickstart's problem).
PRICE_FREE_SHARE = 0.3
# A recommendation stays within these factors of the batch sizes and of the rates that were trained.
NEAR_BATCH, NEAR_RATE = 2.0, 4.0


def near_trained(ladder: tuple[Rung, ...], series: Series) -> list[Rung]:
    """Return the rungs whose batch size and rate are near those that were trained, and whose rate has no known price.

    Args:
        ladder: Rungs, in increasing order of batch size.
        series: Series whose cells were trained.
    """
    cells = [cell for row in series.widths for cell in row.cells]
    batches = [cell.batch_size for cell in cells]
    rates = [cell.learning_rate for cell in cells if not cell.failures] or [cell.learning_rate for cell in cells]

    def near(rung: Rung) -> bool:
        batch_is_near = min(batches) / NEAR_BATCH <= rung.batch_size <= max(batches) * NEAR_BATCH
        rate_is_near = min(rates) / NEAR_RATE <= rung.learning_rate.value <= max(rates) * NEAR_RATE
        edge = rung.stability_edge.value
        return batch_is_near and rate_is_near and not rung.learning_rate.value > PRICE_FREE_SHARE * edge

    return [rung for rung in ladder if near(rung)]


def choose_rung(ladder: tuple[Rung, ...], series: Series, warnings: list[str]) -> Rung:
    """Choose the largest stable batch size near the trained ones, or a cautious rung with a warning if there is none.

    Args:
        ladder: Rungs, in increasing order of batch size.
        series: Series whose cells have the learning rates that were trained.
        warnings: List to which warnings are appended.

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
                "no stability edge was measured, so it is not known whether the rate is stable at this batch size"
            )
        return ladder[0]
    stable = [rung for rung in near_trained(ladder, series) if rung.stable]
    if stable:
        return stable[-1]
    if ladder[0].stable is None:
        trained = [cell.learning_rate for row in series.widths for cell in row.cells if not cell.failures]
        limit = max(trained, default=math.inf)
        within = [rung for rung in ladder if rung.learning_rate.value <= limit * (1 + 1e-9)]
        warnings.append(
            f"no stability edge was measured: the batch is the largest whose rate is at most {limit:g}, the largest "
            "rate that trained without failure"
        )
        return (within or list(ladder[:1]))[-1]
    below_half = [rung for rung in ladder if rung.learning_rate.value <= STABILITY_SHARE * rung.stability_edge.value]
    if below_half:
        warnings.append(
            "the rate is below half of the stability edge, but the upper end of its interval exceeds the edge"
        )
        return below_half[-1]
    warnings.append("even a batch of one example cannot reach the noise scale below half of the stability edge")
    return ladder[0]


def log_ratio_at(series: Series, width: float) -> float:
    """Return log(ḡ/g), the log ratio of normalized noise scale to noise scale, at a width.

    The ratio is a line over log width. Its slope is 0 or 1 in the known parameterizations.
    """
    log_widths = np.log([row.width for row in series.widths])
    ratios = np.array([row.log_ratio for row in series.widths])
    if log_widths.size < 2:
        return float(ratios[0])
    slope, intercept = np.polyfit(log_widths, ratios, 1)
    return float(intercept + slope * math.log(width))
