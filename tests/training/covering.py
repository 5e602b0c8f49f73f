"""Covering arrays: few cases in which every pair of options occurs."""

from __future__ import annotations

import itertools
from typing import Any

Case = dict[str, Any]


def covering_array(cases: list[Case]) -> list[Case]:
    """Greedily, the case that covers most of the pairs that are left; a pair that no case holds is not asked for."""
    pairs = [set(itertools.combinations(case.items(), 2)) for case in cases]
    left, chosen = set().union(*pairs), []
    while left:
        best = max(range(len(cases)), key=lambda position: len(pairs[position] & left))
        chosen.append(cases[best])
        left -= pairs[best]
    return chosen


def name(case: Case) -> str:
    return "-".join(str(value).replace(" ", "") for value in case.values())


def having(cases: list[Case], **fixed: Any) -> list[Case]:
    """The cases with these values."""
    return [case for case in cases if case.items() >= fixed.items()]
