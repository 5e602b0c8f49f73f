"""A verdict: the outcome of a claim's experiment, in the form in which it is stored."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from noisescale.claims.statistic import Statistic

VerdictName = Literal["supported", "contradicted", "inconclusive", "not run"]
SCHEMA_VERSION = 1
# The keys of an estimated number in every output.
_ESTIMATE = ("value", "low", "high", "unit", "convention")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on a claim. The defaults are those of a claim whose experiment did not run.

    Args:
        id: Identifier of the claim.
        paper: Name of the paper.
        statement: The claim, in a sentence.
        criterion: The criterion, in words.
        source: How we know the statement: "read", "derived" or "recalled".
        differs: How the setting differs from the setting of the paper.
        verdict: The outcome.
        statistics: The statistics that the criterion tests. Each entry has the name, value, low, high, unit,
            convention, criterion, outcome and p_value.
        scale: Size of the experiment: "smoke", "laptop" or "gpu".
        first_seed: First seed of the seed set.
        seeds: Number of seeds.
        runs: Number of runs that were trained or simulated.
        setting: Description of what was trained, as facts separated by commas.
        reported: Further numbers without intervals, by name.
        beside: Further statistics, in the format of `statistics`. The verdict does not depend on them.
        seeds_needed: Number of seeds that would settle an inconclusive verdict. None if more seeds would not
            settle it.
        level: Level of each one-sided test, after Holm's correction over all claims of the paper at this scale.
        criterion_commit: The commit that last changed the claims or the laws, or the reason why there is none.
        versions: Versions of the libraries that affect a result.
        seconds: Duration of the experiment, in seconds.
        note: A remark for readers of the verdict.
        device: Names of the devices that trained the runs, such as the model of a GPU. It is empty if nothing was
            trained.
    """

    id: str
    paper: str
    statement: str
    criterion: str
    source: str
    differs: str
    verdict: VerdictName = "not run"
    statistics: tuple[dict[str, Any], ...] = ()
    scale: str
    first_seed: int
    seeds: int = 0
    runs: int = 0
    setting: str = ""
    reported: dict[str, float] = field(default_factory=dict)
    beside: tuple[dict[str, Any], ...] = ()
    seeds_needed: int | None = None
    level: float = 0.0
    criterion_commit: str = "no experiment"
    versions: str
    seconds: float
    note: str = ""
    device: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain values. Numbers that are not finite become null."""
        return {"schema_version": SCHEMA_VERSION, **{name: _plain(value) for name, value in asdict(self).items()}}


def as_entries(statistics: tuple[Statistic, ...]) -> tuple[dict[str, Any], ...]:
    """Return each statistic with its interval, criterion and outcome, as plain values.

    Args:
        statistics: The statistics of a claim.
    """
    return tuple(
        {
            "name": statistic.name,
            **{key: getattr(statistic.estimate, key) for key in _ESTIMATE},
            "criterion": statistic.criterion.text,
            "outcome": statistic.outcome,
            "p_value": statistic.p_value,
        }
        for statistic in statistics
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
