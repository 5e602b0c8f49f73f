"""The choice among the rungs of a recommendation: the best metric, or the cheapest of those that are as good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from noisescale.errors import BadInput
from noisescale.estimate import CONFIDENCE
from noisescale.laws.expected_metrics import Prospect

# Half a percent of the span: less than the seeds' noise of most studies, and what a reader would still call equal.
TOLERANCE = 0.005
# Rungs within this share of the tolerance are equal. Of equal rungs, the fewest steps are chosen.
_EQUAL = 0.1


@dataclass(frozen=True)
class Candidate:
    """A rung that may be recommended.

    Args:
        batch_size: Batch size B, in examples.
        steps: Training steps.
        seconds: Seconds of training; NaN if no time was measured.
        prospect: What the rung is expected to reach.
    """

    batch_size: int
    steps: int
    seconds: float
    prospect: Prospect


PREFERENCES: dict[str, Callable[[Candidate], float]] = {
    "metric": lambda candidate: candidate.steps,
    "steps": lambda candidate: candidate.steps,
    "examples": lambda candidate: candidate.steps * candidate.batch_size,
    "time": lambda candidate: candidate.seconds,
}
"""What is minimized among the rungs that are as good as the best, by preference."""


def choose(candidates: Sequence[Candidate], prefer: str, tolerance: float, span: float) -> int:
    """Choose a rung.

    A rung is as good as the best if its expected regret against the best is at most the tolerance, and the 95 % bound
    of that regret at most twice the tolerance. With the preference "metric", only rungs within a tenth of the tolerance
    are as good.

    Args:
        candidates: Rungs; at least one.
        prefer: A name in `PREFERENCES`.
        tolerance: Tolerance, as a share of the span.
        span: Span of the metric.

    Returns:
        Position of the chosen rung.

    Raises:
        BadInput: "time" is preferred, and the study has no times.
    """
    if prefer == "time" and not all(candidate.seconds > 0 for candidate in candidates):
        raise BadInput("prefer", "a study whose runs have a measured time, for time", "runs without one")
    best = max(candidates, key=lambda candidate: candidate.prospect.mean)
    limit = tolerance * span * (_EQUAL if prefer == "metric" else 1.0)
    cost = PREFERENCES[prefer]
    equal = [
        index
        for index, candidate in enumerate(candidates)
        if candidate is best or _is_as_good(candidate.prospect, best.prospect, limit, bounded=prefer != "metric")
    ]
    return min(equal, key=lambda index: cost(candidates[index]))


def _is_as_good(prospect: Prospect, best: Prospect, limit: float, *, bounded: bool) -> bool:
    loss = (best.heights - best.losses) - (prospect.heights - prospect.losses)
    return bool(loss.mean() <= limit and (not bounded or np.quantile(loss, CONFIDENCE) <= 2 * limit))


def read_share(option: str, text: str) -> float:
    """Read a share that is written as 0.005 or 0.5%.

    Raises:
        BadInput: The text is not a number; the message names the option.
    """
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise BadInput(option, "a share such as 0.005 or 0.5%", text) from None
