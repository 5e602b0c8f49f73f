"""Covering arrays: a small number of cases in which every possible pair of options occurs."""

from __future__ import annotations

import itertools
from typing import Any

Case = dict[str, Any]


def covering_array(cases: list[Case]) -> list[Case]:
    """Choose cases one by one. Each chosen case covers the largest number of pairs that are not covered yet."""
    pairs = [set(itertools.combinations(case.items(), 2)) for case in cases]
    left, chosen = set().union(*pairs), []
    while left:
        position = max(range(len(cases)), key=lambda position: len(pairs[position] & left))
        chosen.append(cases[position])
        left -= pairs[position]
    return chosen


def name(case: Case) -> str:
    return "-".join(str(value).replace(" ", "") for value in case.values())


def having(cases: list[Case], **fixed: Any) -> list[Case]:
    """Return the cases with these values."""
    return [case for case in cases if case.items() >= fixed.items()]
