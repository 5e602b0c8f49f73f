"""The rungs of a recommendation, each a batch size with its rate, and the limits of what a study supports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, no_estimate
from noisescale.laws.batch_faults import batch_fault_of
from noisescale.laws.edge_by_batch import EdgeByBatch
from noisescale.laws.expected_metrics import unknown_metric
from noisescale.laws.fitting import STABILITY_SHARE
from noisescale.laws.nearest import nearest_by_factor
from noisescale.laws.rate_prices import RatePrice
from noisescale.laws.recommendation import Rung
from noisescale.laws.results import Series
from noisescale.noise_laws import NOISE_SCALE, SGD_NOISE
from noisescale.store import Study

Array = NDArray[np.float64]


def training_time(series: Series, metric: str, width: float) -> float:
    """Return ε·steps of the cell nearest to the optimum, at the trained width nearest to `width`.

    Args:
        series: Series, with one ladder of learning rates or batch sizes for each width.
        metric: Metric of the optimum.
        width: Any width.

    Returns:
        The training time ε·steps; NaN without an optimum.
    """
    located = {row.width: row for row in series.widths if metric in row.optima and row.optima[metric].curve.has_value}
    if not located:
        return math.nan
    row = located[nearest_by_factor(located, width)]
    quantity = series.quantity if series.quantity == "learning_rate" else "noise_scale"
    optimum = getattr(row.optima[metric], quantity).value
    cells = {getattr(cell, quantity): cell for cell in row.cells}
    cell = cells[nearest_by_factor(cells, optimum)]
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
    return make_rung(batch, rate, edge, steps)


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
    return make_rung(round(series.fixed_value), rate, edge, max(row.steps for row in series.widths))


def make_rung(batch: int, rate: Estimate, edge: EdgeByBatch | None, steps: float) -> Rung:
    """Return a rung without an expected metric.

    Args:
        batch: Batch size B, in examples.
        rate: Learning rate.
        edge: Stability edge at the width; None if not measured.
        steps: Training steps; rounded, and at least 1.
    """
    limit = edge.at(batch) if edge else no_estimate("learning rate", "not measured")
    # A trained cell has no interval.
    highest = rate.high if not math.isnan(rate.high) else rate.value
    stable = None if edge is None else rate.value <= STABILITY_SHARE * limit.value and highest <= limit.value
    unknown = "no law is known"
    return Rung(
        batch_size=batch,
        learning_rate=rate,
        stability_edge=limit,
        steps=max(round(steps) if math.isfinite(steps) else 0, 1),
        stable=stable,
        expected_metric=unknown_metric("1", unknown),
        expected_regret=no_estimate("1", unknown),
        reason="",
    )


def scaled(estimate: Estimate, log_factor: float, unit: str, convention: str) -> Estimate:
    """Return the estimate times exp(log_factor); infinite ends stay infinite."""
    factor = math.exp(log_factor)
    return Estimate(estimate.value * factor, estimate.low * factor, estimate.high * factor, unit, convention)


def without_interval(estimate: Estimate) -> Estimate:
    """Return the value of an estimate alone."""
    return replace(estimate, low=math.nan, high=math.nan)


# Up to this share of the stability edge, a larger rate with a larger batch cost no accuracy at equal noise and equal
# ε·steps; at 0.4 it cost 0.8 percentage points and at half of the edge 2 (ten seeds, the quickstart's problem).
PRICE_FREE_SHARE = 0.3
# A recommendation stays within these factors of the batch sizes and of the rates that were trained.
NEAR_BATCH, NEAR_RATE = 2.0, 4.0
# Without an edge, a rate may exceed the largest trained rate by this factor, because batch sizes are whole numbers.
_WHOLE_BATCHES = 1.05


def exceeds(rate: float, limit: float) -> bool:
    """Return whether a rate exceeds a limit by more than the rounding of both; False if the limit is NaN."""
    return rate > limit * (1 + 1e-9)


@dataclass(frozen=True)
class Limits:
    """The settings that a study supports.

    Args:
        batches: Smallest and largest batch size, in examples.
        rates: Smallest and largest learning rate.
        share: Largest share of the stability edge.
        edge: Stability edge at the width; None if not measured.
        price: Price of a larger rate; None if not measured.
    """

    batches: tuple[float, float]
    rates: tuple[float, float]
    share: float
    edge: EdgeByBatch | None
    price: RatePrice | None

    @classmethod
    def of(cls, series: Sequence[Series], edge: EdgeByBatch | None, price: RatePrice | None = None) -> Limits:
        """Return the limits that the cells of a study give.

        Args:
            series: Series whose cells were trained.
            edge: Stability edge at the width; None if not measured.
            price: Price of a larger rate. Default: not measured.
        """
        cells = [cell for part in series for row in part.widths for cell in row.cells]
        batches = [cell.batch_size for cell in cells]
        rates = [cell.learning_rate for cell in cells if not cell.failures] or [cell.learning_rate for cell in cells]
        if price is not None:
            batches += [cell.batch_size for cell in price.cells]
            rates += [cell.learning_rate for cell in price.cells if not cell.failures]
        # Without an edge, nothing shows that a rate above the trained ones is stable.
        above = 1.0 if edge is None else NEAR_RATE
        measured = price if price is not None and price.largest_share > PRICE_FREE_SHARE else None
        return cls(
            batches=(min(batches) / NEAR_BATCH, max(batches) * NEAR_BATCH),
            rates=(min(rates) / NEAR_RATE, max(rates) * above),
            share=PRICE_FREE_SHARE if measured is None else min(measured.largest_share, STABILITY_SHARE),
            edge=edge,
            price=measured,
        )

    def price_of(self, rate: float, edge: float, draws: int) -> Array | None:
        """Draw the price of a rate at equal noise.

        Args:
            rate: Learning rate ε.
            edge: Stability edge at its batch size; NaN if not measured.
            draws: Number of draws. Rates are paired over the draws.

        Returns:
            The price, for a metric to maximize, shape [draws]; None if it is not known at this share of the edge.
        """
        known = PRICE_FREE_SHARE if self.price is None else self.price.largest_share
        if exceeds(rate, known * edge):
            return None
        if self.price is None:
            return np.zeros(draws)
        share = 0.0 if math.isnan(edge) else min(rate / edge, known)
        return self.price.draws(np.array([share]), draws, np.random.default_rng(2))[:, 0]

    def highest(self, batch_size: float) -> float:
        """Return the largest learning rate at a batch size."""
        return min(self.rates[1], math.inf if self.edge is None else self.share * self.edge.at(batch_size).value)

    def near_batch(self, batch_size: float) -> bool:
        """Return whether a batch size is near the trained ones."""
        return self.batches[0] <= batch_size <= self.batches[1]

    def fault(self, rung: Rung) -> str:
        """Return why a rung is not recommended; empty if it may be."""
        batch, rate, edge = rung.batch_size, rung.learning_rate.value, rung.stability_edge.value
        if not self.near_batch(batch):
            return f"no batch size within a factor of {NEAR_BATCH:g} was trained"
        if exceeds(self.rates[0], rate):
            return f"the rate is below {self.rates[0]:.3g}: none within a factor of {NEAR_RATE:g} was trained"
        if exceeds(rate, self.rates[1] * (1 if self.edge else _WHOLE_BATCHES)):
            if self.edge is None:
                return f"the rate is above {self.rates[1]:.3g}, the largest that was trained, and no edge was measured"
            return f"the rate is above {self.rates[1]:.3g}: none within a factor of {NEAR_RATE:g} was trained"
        if exceeds(rate, self.share * edge):
            cause = ", and the price of a larger rate was not measured" if self.price is None else ""
            return f"the rate is above {self.share:.2g} of the stability edge{cause}"
        return ""


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
