"""Figures as data: curves, and the panels that contain them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A curve of a figure.

    Args:
        label: Text in the legend.
        x: Horizontal positions, shape [M].
        y: Vertical positions, shape [M].
        low: Lower ends of the intervals, shape [M], or None.
        high: Upper ends of the intervals, shape [M], or None.
        kind: "measured", "theory" or "reference". A theory curve shows a prediction, such as a value or a slope. A
            reference curve guides the eye, such as zero difference, a bound or another slope.
    """

    label: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    kind: Literal["measured", "theory", "reference"] = "measured"


@dataclass(frozen=True)
class Panel:
    """A set of axes with its curves.

    Args:
        x_label: Label of the horizontal axis, with its unit.
        y_label: Label of the vertical axis, with its unit.
        curves: The curves to draw.
        log_x: Whether the horizontal axis is logarithmic.
        log_y: Whether the vertical axis is logarithmic.
        whole_x: Whether ticks of the horizontal axis are only at whole numbers.
    """

    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    log_x: bool = False
    log_y: bool = False
    whole_x: bool = False


def mean_with_errors(label: str, x: Floats, values: Floats, *, logs: bool = False) -> Curve:
    """Draw the mean over seeds with ± 2 standard errors.

    Args:
        label: Text in the legend, to which the meaning of the bars is added.
        x: Horizontal positions, shape [M].
        values: Values by position and seed, shape [M, S].
        logs: Whether the values are natural logarithms. The curve then shows their exponentials.
    """
    two_errors = 2 * values.std(1, ddof=1) / np.sqrt(values.shape[1])
    return _mean_with_bars(f"{label}, ± 2 standard errors", x, values.mean(1), two_errors, logs)


def mean_with_deviations(label: str, x: Floats, values: Floats, *, logs: bool = False) -> Curve:
    """Draw the mean over seeds with ± 1 standard deviation of the seeds.

    Args:
        label: Text in the legend, to which the meaning of the bars is added.
        x: Horizontal positions, shape [M].
        values: Values by position and seed, shape [M, S].
        logs: Whether the values are natural logarithms. The curve then shows their exponentials.
    """
    spread = values.std(1, ddof=1)
    return _mean_with_bars(f"{label}, ± standard deviation of seeds", x, values.mean(1), spread, logs)


def _mean_with_bars(label: str, x: Floats, mean: Floats, bar: Floats, logs: bool) -> Curve:
    center, low, high = (np.exp(part) if logs else part for part in (mean, mean - bar, mean + bar))
    return Curve(label, x, center, low, high)
