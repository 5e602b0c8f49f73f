"""How often planted studies without an effect are called supported: at most 5 % expected, 8 % of 200 draws.

That of C4.3, curvature of loss and time alone, is in `test_sharpness.py`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from noisescale.claims import CLAIMS, Request
from noisescale.claims.claim import NotRun
from noisescale.claims.criterion import joint_outcome

# Claims whose smoke size is a planted study; those in LAWS fit whole studies, a second a draw.
CHEAP = ["C1.2", "C1.10", "C1.11", "C3.1", "C3.2", "C3.3", "C3.4", "C3.5", "C3.6", "C3.7", "C3.8", "C4.1", "C4.2",
         "C4.4", "C4.7"]  # fmt: skip
LAWS = ["C1.1", "C1.3", "C1.4", "C1.5", "C1.6", "C1.7", "C1.8", "C1.9"]


def supported(name: str, draws: int, folder: Path) -> int:
    """Of so many planted nulls, each from other seeds."""
    experiment = CLAIMS[name].experiment
    assert experiment is not None
    found = 0
    for draw in range(draws):
        # Without an effect the best of a ladder is often its end, and then there is no evidence.
        with contextlib.suppress(NotRun):
            evidence = experiment(Request("smoke", 1000 * draw, folder, null=True))
            found += joint_outcome(evidence.statistics) == "supported"
    return found


@pytest.mark.short
@pytest.mark.parametrize("name", CHEAP)
def test_few_nulls_are_supported(name: str, tmp_path: Path) -> None:
    # Of 12 draws at 5 % more than 4 would be one in a thousand.
    assert supported(name, 12, tmp_path) <= 4


@pytest.mark.full
@pytest.mark.parametrize(("name", "draws"), [*((name, 200) for name in CHEAP), *((name, 40) for name in LAWS)])
def test_few_nulls_are_supported_in_the_long_run(name: str, draws: int, tmp_path: Path) -> None:
    assert supported(name, draws, tmp_path) <= 0.08 * draws
