"""The metric that a setting is expected to reach at a width, and what it is expected to lose against the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from noisescale.estimate import CONFIDENCE, Estimate
from noisescale.laws.constant_predictor import NO_FAILURES, Failures
from noisescale.laws.decisions import Outlook
from noisescale.laws.metric_scale import fitted_unit, metric_values
from noisescale.training import METRICS

Array = NDArray[np.float64]

_TAIL = (1 - CONFIDENCE) / 2
# Quantiles of equal probability represent the runs of a setting.
_LEVELS = (np.arange(200) + 0.5) / 200


@dataclass(frozen=True)
class ExpectedMetric:
    """The metric that a setting is expected to reach.

    Args:
        value: Expected mean over seeds; NaN if it is not known.
        low: Lower end of the 95 % interval of the mean over seeds.
        high: Upper end of that interval.
        run_low: Lower end of the interval that holds 95 % of single runs.
        run_high: Upper end of that interval.
        unit: Unit of the metric.
        convention: Definition of the number, or the reason why it is not known.
    """

    value: float
    low: float
    high: float
    run_low: float
    run_high: float
    unit: str
    convention: str


def unknown_metric(unit: str, reason: str) -> ExpectedMetric:
    """Return an expected metric without a value."""
    return ExpectedMetric(math.nan, math.nan, math.nan, math.nan, math.nan, unit, reason)


@dataclass(frozen=True, eq=False)
class Prospect:
    """Draws of what one setting reaches at a width, for a metric to maximize, on the scale on which curves are fitted.

    Args:
        losses: Drop below the optimum of the width, from the noise and from the price of the rate, shape [draws].
        heights: Height of the optimum of the width, shape [draws].
        deviation: Standard deviation of one seed about the mean over the seeds that do not fail.
        ceiling: Expected height of the best alternative. It is above the mean of `heights` if another batch size has a
            higher optimum.
        freedom: Degrees of freedom of this deviation. Default: it is known.
        failures: Runs that fail at this setting. Default: none. They lower the mean over seeds, so `heights` and
            `losses` already contain them.
    """

    losses: Array
    heights: Array
    deviation: float
    ceiling: float
    freedom: float = math.inf
    failures: Failures = NO_FAILURES

    @property
    def mean(self) -> float:
        """Expected metric, for a metric to maximize."""
        return float(np.mean(self.heights - self.losses))

    def metric(self, metric: str, unit: str, convention: str) -> ExpectedMetric:
        """Return the expected metric, whether it is maximized or minimized.

        Args:
            metric: Name of the metric.
            unit: Its unit.
            convention: Definition of the number.
        """
        sign = METRICS[metric].sign
        values = sign * (self.heights - self.losses)
        runs = sign * self._runs()
        low, high = np.quantile(values, (_TAIL, 1 - _TAIL))
        run_low, run_high = np.quantile(runs, (_TAIL, 1 - _TAIL))
        # Where the draws of the mean have a second cluster, the scatter of runs moves its quantile inward. A single run
        # is never better known than the mean.
        run_low, run_high = min(run_low, low), max(run_high, high)
        value, low, high, run_low, run_high = metric_values((values.mean(), low, high, run_low, run_high), metric, unit)
        return ExpectedMetric(
            value=float(value),
            low=float(low),
            high=float(high),
            run_low=float(run_low),
            run_high=float(run_high),
            unit=unit,
            convention=convention,
        )

    def _runs(self) -> Array:
        """Return the metric of runs of equal probability, for a metric to maximize, shape [draws, runs]."""
        means, share, constant = self.heights - self.losses, self.failures.share, self.failures.constant
        if not (share > 0 and math.isfinite(constant)):
            return np.asarray(means[:, None] + self.deviation * self._quantiles(_LEVELS))
        # mean = share·constant + (1 − share)·(mean of the others)
        others = (means - share * constant) / (1 - share)
        fails = _LEVELS < share
        deviates = self._quantiles(np.where(fails, 0.5, (_LEVELS - share) / (1 - share)))
        return np.where(fails, constant, others[:, None] + self.deviation * deviates)

    def _quantiles(self, levels: Array) -> Array:
        """Return quantiles of a run, in units of the deviation. One that few seeds measured may be too small."""
        return np.asarray(stdtrit(self.freedom, levels) if math.isfinite(self.freedom) else ndtri(levels))

    def regret(self, metric: str, unit: str, convention: str) -> Estimate:
        """Return the expected regret against the best setting of the width, with its 95 % bound.

        A regret in perplexity is a difference of logarithms, in nats.

        Args:
            metric: Name of the metric.
            unit: Its unit.
            convention: Definition of the number.
        """
        gap = max(self.ceiling - float(self.heights.mean()), 0.0)
        mean, bound = float(self.losses.mean()), float(np.quantile(self.losses, CONFIDENCE))
        return Estimate(mean + gap, 0.0, max(bound, mean) + gap, fitted_unit(metric, unit), convention)


def prospect(outlook: Outlook, x: float, price: Array | float = 0.0, paid: Array | float = 0.0) -> Prospect:
    """Return what a setting reaches.

    Args:
        outlook: Draws of the width's curve.
        x: Position of the setting, the log of the series' quantity.
        price: Price of the setting's learning rate in each draw, shape [draws]. Default: none.
        paid: Price that the cells paid from which the height of the curve was measured, shape [draws]. Default: none.
    """
    losses = outlook.drop(np.array([x]))[:, 0] + price
    heights = outlook.heights + paid
    ceiling = float(heights.mean())
    return Prospect(losses, heights, outlook.deviation, ceiling, outlook.freedom, outlook.failures)
