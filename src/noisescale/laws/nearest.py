"""Which of several numbers differs from another by the smallest factor."""

from __future__ import annotations

import math
from collections.abc import Iterable


def nearest_by_factor(values: Iterable[float], target: float) -> float:
    """Return the value with the smallest |log(value/target)|; of two, the first.

    Args:
        values: Values above 0, at least one.
        target: Number above 0.
    """
    return min(values, key=lambda value: abs(math.log(value / target)))
