"""Formats of numbers, with three significant digits, intervals in brackets and signs for open ends."""

from __future__ import annotations

import math
from collections.abc import Callable

from noisescale.estimate import Estimate

NONE = "–"
LEGEND = (
    "Brackets show 95 % intervals. '<' or '>' in a bracket means that the data do not bound this end. '≤' or '≥' means "
    "that the optimum lies at this end of the grid or beyond it. '–' means that there is no measurement or no estimate."
)


def number(value: float, digits: int = 3) -> str:
    """Format a number with a given number of significant digits, as 0.0312, 4.25, 63.9 or 4,180."""
    if not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)) + 1e-12)
    if size >= 7 or size < -4:
        return f"{value:.{digits - 1}e}"
    rounded = round(value, digits - 1 - size)
    return f"{rounded:,.{max(0, digits - 1 - size)}f}"


def with_interval(
    estimate: Estimate, digits: int = 3, censored: int = 0, write: Callable[[float], str] | None = None
) -> str:
    """Format an estimate as `value [low, high]`.

    An open end appears as `<` or `>`. A value that is only a bound has the sign `≤` or `≥`.

    Args:
        estimate: Estimate to format. Ends of ±inf are open; NaN ends mean that there is no interval.
        digits: Number of significant digits.
        censored: -1 if the value is an upper bound, 1 if it is a lower bound, 0 otherwise.
        write: Function that formats a number. By default it is `number` with `digits`.

    Returns:
        The text.
    """
    if not math.isfinite(estimate.value):
        return NONE
    # Ends that agree to three digits would print as an interval of width zero.
    if number(estimate.low, digits) == number(estimate.high, digits) and estimate.low < estimate.high:
        digits += 1
    formatted = write or (lambda value: number(value, digits))
    text = {-1: "≤ ", 0: "", 1: "≥ "}[censored] + formatted(estimate.value)
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return text
    low = formatted(estimate.low) if math.isfinite(estimate.low) else "<"
    high = formatted(estimate.high) if math.isfinite(estimate.high) else ">"
    return f"{text} [{low}, {high}]"


def batch_size(estimate: Estimate, censored: int = 0) -> str:
    """Format an estimated batch size, as a whole number from ten on and with two digits below ten."""
    return with_interval(
        estimate, censored=censored, write=lambda value: f"{value:,.0f}" if value >= 9.95 else number(value, 2)
    )


def percent(estimate: Estimate, sign: str = " %") -> str:
    """Format a fraction as a percentage with its interval: `63.9 % [63.1, 64.7]`."""
    if not math.isfinite(estimate.value):
        return NONE
    text = f"{100 * estimate.value:.1f}{sign}"
    return f"{text} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]" if estimate.bounded else text


def seconds(value: float) -> str:
    """Format a duration: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, rest_minutes = divmod(minutes, 60)
    return f"{hours} h {rest_minutes} min" if hours else f"{minutes} min {rest} s"
