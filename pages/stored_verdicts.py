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
    """The verdict on a claim when it is judged together with every stored verdict of its paper.

    Args:
        verdict: The verdict.
        level: Holm's level of each one-sided test. It is 0 if the procedure stopped before this claim.
        alone: The verdict from the same numbers when only this claim is verified, at the first of Holm's levels.
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
    """Read the verdict in a file, or return None if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def stored(claim_id: str, folder: Path = FOLDER) -> tuple[StoredVerdict | None, StoredVerdict | None]:
    """Read the verdict that decides a claim, and the verdict on the second seeds."""
    return read(folder / f"{claim_id}.json"), read(folder / f"{claim_id}-second.json")


def seed_set(verdict: StoredVerdict) -> int:
    """Return the number of the seed set that a verdict rests on."""
    return int(verdict["first_seed"]) // SEEDS_APART


def changed(verdict: StoredVerdict) -> list[str]:
    """List the parts of a verdict that differ from today's claim: its statement, criterion or differences.

    The differences are not compared at `gpu` scale, where the sweeps state them and not the claim.
    """
    names = ("statement", "criterion", *(("differs",) if verdict["scale"] != "gpu" else ()))
    return [name for name in names if verdict[name] != getattr(CLAIMS[verdict["id"]], name)]


def judged(verdicts: list[StoredVerdict]) -> dict[str, Judgement]:
    """Judge the verdicts of one paper together, from their stored p-values.

    If claims were verified in separate calls, their levels used only the p-values of one call.

    Args:
        verdicts: Stored verdicts of one paper on one seed set.

    Returns:
        The judgement of each claim with statistics, by id.
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
    """Read the stored verdicts of a paper: the verdicts that decide, and the verdicts on the second seeds."""
    pairs = [stored(claim.id) for claim in CLAIMS.values() if claim.paper == paper]
    deciding, second = ([pair[index] for pair in pairs] for index in (0, 1))
    return [verdict for verdict in deciding if verdict], [verdict for verdict in second if verdict]


def drawn_title(claim_id: str) -> str | None:
    """Read the title of a claim's figure from a comment in its file, because the file draws text as paths."""
    path = FIGURES / f"{claim_id}.svg"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    match = re.search(rf"<!-- ({re.escape(claim_id)}: .*?) -->", text)
    return match[1] if match else None


def title(verdict: StoredVerdict) -> str:
    """Return the title that a figure of this verdict has."""
    return figure_title(verdict["id"], verdict["verdict"], verdict["scale"], verdict["seeds"], verdict["first_seed"])
