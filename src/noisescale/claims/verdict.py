"""What a claim's experiment decided, in the form in which it is kept."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from noisescale.claims.criterion import Statistic

VerdictName = Literal["supported", "contradicted", "inconclusive", "not run"]
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Verdict:
    """A verdict.

    Arguments:
        id, paper, statement, criterion, differs, source: of the claim. verdict: the word. statistics: one entry each,
            with value, low, high, unit, convention, criterion, outcome and p_value. scale: smoke, laptop or gpu.
            first_seed: of the set. seeds: their number. runs: trained or simulated. setting: in a sentence. reported:
            numbers beside. beside: statistics that decide nothing, as `statistics`.
        seeds_needed: with how many seeds an inconclusive statistic would be decided; None where more would not do.
        level: of each one-sided test, after Holm's correction over the claims that were verified together.
        criterion_commit: the commit that last changed the criterion's file, or why there is none. versions: that a
            result depends on. seconds: it took. note: what a reader should know. device: that its runs were trained on,
            a GPU by its name; empty where none were.
    """

    id: str
    paper: str
    statement: str
    criterion: str
    source: str
    differs: str
    verdict: VerdictName
    statistics: tuple[dict[str, Any], ...]
    scale: str
    first_seed: int
    seeds: int
    runs: int
    setting: str
    reported: dict[str, float]
    beside: tuple[dict[str, Any], ...]
    seeds_needed: int | None
    level: float
    criterion_commit: str
    versions: str
    seconds: float
    note: str = ""
    device: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is not finite is null."""
        return {"schema_version": SCHEMA_VERSION, **{name: _plain(value) for name, value in asdict(self).items()}}


def as_entries(statistics: tuple[Statistic, ...]) -> tuple[dict[str, Any], ...]:
    """Every statistic with its interval, criterion and outcome."""
    return tuple(
        {
            "name": one.name, **asdict(one.estimate), "criterion": one.criterion.text, "outcome": one.outcome,
            "p_value": one.p_value,
        }
        for one in statistics
    )  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _plain(own) for name, own in value.items()}
    return [_plain(own) for own in value] if isinstance(value, list | tuple) else value
