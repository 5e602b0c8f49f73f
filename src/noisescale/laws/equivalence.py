"""An equivalence test of two settings, with a margin that may grow with the effect of a control.

The control is a third setting that is known to differ. If its effect is not detected, the test cannot show equivalence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput
from noisescale.estimate import Estimate
from noisescale.laws.interval import has_no_spread, mean_over_seeds

Array = NDArray[np.float64]

# Half a percentage point of accuracy.
MARGIN = 0.005
# A quarter of the effect of the control.
SHARE = 0.25


@dataclass(frozen=True)
class Equivalence:
    """The result of an equivalence test of two settings.

    Args:
        result: "equivalent", "different" or "inconclusive". Values that are equal in all seeds do not show their error,
            so the result is then inconclusive.
        reason: The reason for the result, in one sentence.
        difference: Mean paired difference of the two settings.
        control: Mean paired difference between the first setting and the control setting, with its sign chosen so that
            the mean is not negative.
        margin: Margin that was applied: the fixed margin or share × control, whichever is larger.
        contrast: |difference| - margin, with one-sided 95 % ends. If the settings are equivalent, its upper end is
            below zero.
        seeds: Number of seeds.
    """

    result: str
    reason: str
    difference: Estimate
    control: Estimate
    margin: float
    contrast: Estimate
    seeds: int


def equivalence(
    difference: Array,
    control: Array,
    *,
    margin: float = MARGIN,
    share: float = SHARE,
    unit: str = "fraction",
    confidence: float = 0.95,
) -> Equivalence:
    """Test that two settings agree within max(margin, share × effect of a control).

    If share × control exceeds the fixed margin, the contrast is |D| - share·D_control per seed, so that the
    uncertainty of the control enters. Otherwise the contrast is |D| - margin. Two one-sided tests at 5 % each decide
    equivalence. The test is inconclusive unless the control differs from zero at 95 % (two-sided).

    Args:
        difference: Metric of the first setting minus that of the second, paired by seed, shape [seeds].
        control: Metric of the first setting minus that of the control setting, paired by seed, shape [seeds].
        margin: Smallest margin, in units of the metric.
        share: Share of the control's effect within which two settings count as the same.
        unit: Unit of the metric.
        confidence: Level of each one-sided end.

    Returns:
        The result with its statistic.

    Raises:
        BadInput: There are fewer than three seeds, the shapes differ, or a value is not finite.

    Source:
        Two one-sided tests: Schuirmann 1987.
    """
    d, c = np.asarray(difference, dtype=np.float64), np.asarray(control, dtype=np.float64)
    if d.ndim != 1 or d.shape != c.shape or d.size < 3:
        raise BadInput("equivalence", "difference and control of the same shape, with at least three seeds", d.shape)
    if not (np.all(np.isfinite(d)) and np.all(np.isfinite(c))):
        raise BadInput("equivalence", "finite differences", "NaN or infinity")
    c = c if c.mean() >= 0 else -c
    difference_estimate = _mean(d, unit, "paired difference", confidence)
    control_estimate = _mean(c, unit, "paired difference of the control", confidence)
    follows_control = share * c.mean() > margin
    margins = share * c if follows_control else np.full_like(d, margin)
    # Each end of a two-sided interval at level 2c - 1 is a one-sided bound at level c.
    sides = [_mean(sign * d - margins, unit, "", 2 * confidence - 1) for sign in (1.0, -1.0)]
    text = f"|D| - {share:g} D_control" if follows_control else f"|D| - {margin:g}"
    contrast = Estimate(
        max(side.value for side in sides),
        max(side.low for side in sides),
        max(side.high for side in sides),
        unit,
        f"{text}; one-sided {confidence:.0%} ends",
    )
    without_spread = [
        name
        for name, values in (("control", c), ("difference", d - margins), ("difference", d + margins))
        if has_no_spread(values)
    ]
    if without_spread:
        result = "inconclusive"
        reason = f"the {without_spread[0]} is equal in all {d.size} seeds, so its error is unknown: add seeds"
    elif control_estimate.low <= 0:
        result, reason = "inconclusive", "the control has no detectable effect, so the test cannot show equivalence"
    elif contrast.high < 0:
        result, reason = "equivalent", "the difference lies within the margin"
    elif contrast.low > 0:
        result, reason = "different", "the difference exceeds the margin"
    else:
        result, reason = "inconclusive", "the interval of the difference includes the margin: add seeds"
    applied = max(margin, share * float(c.mean()))
    return Equivalence(result, reason, difference_estimate, control_estimate, applied, contrast, int(d.size))


def _mean(values: Array, unit: str, convention: str, confidence: float) -> Estimate:
    """Return the mean with its t interval, which has no ends if the seeds do not show an error."""
    estimate = mean_over_seeds(values, unit, convention, confidence)
    return replace(estimate, low=-math.inf, high=math.inf) if has_no_spread(values) else estimate
