"""Whether two settings are the same: an equivalence test whose margin is tied to a detected control."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput
from noisescale.estimate import Estimate
from noisescale.laws.interval import mean_over_seeds

Array = NDArray[np.float64]

# Half a point of accuracy, and a quarter of the effect that the same run's control shows.
MARGIN = 0.005
SHARE = 0.25


@dataclass(frozen=True)
class Equivalence:
    """The answer to "are these two the same?".

    Args:
        result: equivalent, different or inconclusive.
        reason: one sentence.
        difference: mean paired difference of the two settings.
        control: mean paired difference of the control, in its own direction.
        margin: the margin used, max(margin, share × control).
        contrast: |difference| - margin with its interval of one-sided 95 % ends; equivalent when below zero.
        seeds: number of seeds.
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

    Where a quarter of the control exceeds the fixed margin, the contrast is |D| - share·D_control per seed, so that
    the uncertainty of the control enters; otherwise it is |D| - margin. Equivalence is the two one-sided tests at
    5 % each. The control must differ from zero at 95 % two-sided, or nothing can be said.

    Args:
        difference: metric of one setting minus the other, one value per seed, paired, shape [seeds].
        control: metric of one setting minus the control setting, paired over the same seeds, shape [seeds].
        margin: smallest margin, in units of the metric.
        share: share of the control's effect that counts as the same.
        unit: unit of the metric.
        confidence: level of each one-sided end.

    Returns:
        The verdict with its statistic.

    Raises:
        BadInput: Fewer than three seeds or shapes that differ.

    Source:
        two one-sided tests, Schuirmann 1987.
    """
    d, c = np.asarray(difference, dtype=np.float64), np.asarray(control, dtype=np.float64)
    if d.ndim != 1 or d.shape != c.shape or d.size < 3:
        raise BadInput("equivalence", "difference and control of the same shape, with at least three seeds", d.shape)
    if not (np.all(np.isfinite(d)) and np.all(np.isfinite(c))):
        raise BadInput("equivalence", "finite differences", "NaN or infinity")
    c = c if c.mean() >= 0 else -c
    difference_estimate = mean_over_seeds(d, unit, "paired difference", confidence)
    control_estimate = mean_over_seeds(c, unit, "paired difference of the control", confidence)
    tied = share * c.mean() > margin
    allowed = share * c if tied else np.full_like(d, margin)
    # Each end of an interval at 2c - 1 is a one-sided bound at c.
    sides = [mean_over_seeds(sign * d - allowed, unit, "", 2 * confidence - 1) for sign in (1.0, -1.0)]
    text = f"|D| - {share:g} D_control" if tied else f"|D| - {margin:g}"
    contrast = Estimate(
        max(side.value for side in sides),
        max(side.low for side in sides),
        max(side.high for side in sides),
        unit,
        f"{text}; one-sided {confidence:.0%} ends",
    )
    if control_estimate.low <= 0:
        result, reason = "inconclusive", "the control is not detected, so a missing difference says nothing"
    elif contrast.high < 0:
        result, reason = "equivalent", "the difference lies within the margin"
    elif contrast.low > 0:
        result, reason = "different", "the difference exceeds the margin"
    else:
        result, reason = "inconclusive", "the difference is neither within nor beyond the margin: add seeds"
    used = max(margin, share * float(c.mean()))
    return Equivalence(result, reason, difference_estimate, control_estimate, used, contrast, int(d.size))
