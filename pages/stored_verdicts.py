"""Read the verdicts stored in docs/verdicts and compare them with today's claims."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisescale.claims import CLAIMS, SEEDS_APART, Outcome, holm_levels, joint_outcome
from noisescale.report import figure_title

ROOT = Path(__file__).parents[1]
FOLDER, FIGURES = ROOT / "docs" / "verdicts", ROOT / "docs" / "figures"
StoredVerdict = dict[str, Any]


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim, judged together with every stored verdict of its paper.

    Args:
        verdict: The verdict.
        level: Holm's level of each one-sided test; 0 where the procedure stopped earlier.
        alone: The verdict that the same numbers give when the claim is verified by itself, at the first level.
        p_value: The largest p-value of the claim's statistics.
        family: Number of claims tested together.
    """

    verdict: str
    level: float
    alone: str
    p_value: float
    family: int


@dataclass(frozen=True)
class _Statistic:
    outcome: Outcome
    p_value: float


def read(path: Path) -> StoredVerdict | None:
    """Read the verdict in a file, or return None where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def stored(claim_id: str, folder: Path = FOLDER) -> tuple[StoredVerdict | None, StoredVerdict | None]:
    """Read the verdict that decides a claim, and the one on the second seeds."""
    return read(folder / f"{claim_id}.json"), read(folder / f"{claim_id}-second.json")


def seed_set(verdict: StoredVerdict) -> int:
    """Return the number of the seed set that a verdict rests on."""
    return int(verdict["first_seed"]) // SEEDS_APART


def changed(verdict: StoredVerdict) -> list[str]:
    """List the parts of a verdict that differ from today's claim: its statement, criterion or differences.

    At `gpu` scale the sweeps state how they differ from the paper, and this page does not know them.
    """
    names = ("statement", "criterion", *(("differs",) if verdict["scale"] != "gpu" else ()))
    return [name for name in names if verdict[name] != getattr(CLAIMS[verdict["id"]], name)]


def judged(verdicts: list[StoredVerdict]) -> dict[str, Judgement]:
    """Judge the verdicts of one paper together, from their stored p-values.

    Claims that were verified in separate calls have levels that knew only part of the p-values.

    Args:
        verdicts: Stored verdicts of one paper on one seed set.

    Returns:
        Judgement of each claim that has statistics, by id.
    """
    statistics = {
        verdict["id"]: [_Statistic(entry["outcome"], entry["p_value"]) for entry in verdict["statistics"]]
        for verdict in verdicts
        if verdict["statistics"]
    }
    p_values = {claim_id: max(entry.p_value for entry in entries) for claim_id, entries in statistics.items()}
    papers = {verdict["paper"] for verdict in verdicts}
    family = sum(claim.paper in papers and claim.experiment is not None for claim in CLAIMS.values())
    levels = holm_levels(p_values, family)
    first_level = 0.025 / max(family, 1)
    return {
        claim_id: Judgement(
            joint_outcome(entries, levels[claim_id]),
            levels[claim_id],
            joint_outcome(entries, first_level),
            p_values[claim_id],
            family,
        )
        for claim_id, entries in statistics.items()
    }


def of_paper(paper: str) -> tuple[list[StoredVerdict], list[StoredVerdict]]:
    """Read the stored verdicts of a paper: those that decide, and those on the second seeds."""
    pairs = [stored(claim.id) for claim in CLAIMS.values() if claim.paper == paper]
    first, second = ([pair[place] for pair in pairs] for place in (0, 1))
    return [verdict for verdict in first if verdict], [verdict for verdict in second if verdict]


def drawn_title(claim_id: str) -> str | None:
    """Read the title of a claim's figure from the comment beside it, since text in a figure is drawn as paths."""
    path = FIGURES / f"{claim_id}.svg"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    match = re.search(rf"<!-- ({re.escape(claim_id)}: .*?) -->", text)
    return match[1] if match else None


def title(verdict: StoredVerdict) -> str:
    """Return the title of a figure that is drawn with this verdict."""
    return figure_title(verdict["id"], verdict["verdict"], verdict["scale"], verdict["seeds"], verdict["first_seed"])
