from __future__ import annotations

import math

import numpy as np
import pytest

from noisescale.errors import BadInput
from noisescale.laws.expected_metrics import Prospect
from noisescale.laws.preferences import Candidate, choose

SPAN = 0.5
TOLERANCE = 0.005
HEIGHTS = 0.7 + 0.01 * np.random.default_rng(0).standard_normal(1000)


def candidate(batch: int, loss: float, spread: float = 0.0, seconds: float = 1.0) -> Candidate:
    """Return a rung whose loss has a mean and a deviation over the draws; the height is common to all rungs."""
    losses = loss + spread * np.random.default_rng(batch).standard_normal(1000)
    return Candidate(batch, 64_000 // batch, seconds, Prospect(losses, HEIGHTS, 0.01, 0.7))


def test_the_best_expected_metric_wins_and_ties_go_to_fewer_steps() -> None:
    rungs = [candidate(8, 0.0), candidate(16, 0.0001), candidate(32, 0.001)]
    assert choose(rungs, "metric", TOLERANCE, SPAN) == 1


def test_fewer_steps_win_within_the_tolerance() -> None:
    rungs = [candidate(8, 0.0), candidate(16, 0.0001), candidate(32, 0.0024), candidate(64, 0.003)]
    assert choose(rungs, "steps", TOLERANCE, SPAN) == 2
    assert choose(rungs, "steps", 2 * TOLERANCE, SPAN) == 3


def test_an_uncertain_loss_is_not_within_the_tolerance() -> None:
    rungs = [candidate(8, 0.0), candidate(16, 0.001, spread=0.01)]
    assert choose(rungs, "steps", TOLERANCE, SPAN) == 0


def test_the_common_error_of_the_heights_does_not_matter() -> None:
    assert HEIGHTS.std() > 2 * TOLERANCE * SPAN
    assert choose([candidate(8, 0.0), candidate(16, 0.002)], "steps", TOLERANCE, SPAN) == 1


def test_time_and_examples_choose_by_their_cost() -> None:
    rungs = [candidate(8, 0.0, seconds=3.0), candidate(16, 0.0, seconds=2.0), candidate(32, 0.0, seconds=4.0)]
    assert choose(rungs, "time", TOLERANCE, SPAN) == 1
    fewer = [rungs[0], Candidate(16, 100, 1.0, rungs[1].prospect), rungs[2]]
    assert choose(fewer, "examples", TOLERANCE, SPAN) == 1


def test_time_needs_measured_times() -> None:
    with pytest.raises(BadInput, match="prefer"):
        choose([candidate(8, 0.0, seconds=math.nan)], "time", TOLERANCE, SPAN)
