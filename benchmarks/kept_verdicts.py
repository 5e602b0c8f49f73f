"""The verdicts that are kept in docs/verdicts: what each says, and whether it still says what the code would ask."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisescale.claims import CLAIMS
from noisescale.claims.criterion import Outcome, holm_levels, joint_outcome
from noisescale.claims.verify import SEEDS_APART
from noisescale.report.claims import figure_title

ROOT = Path(__file__).parents[1]
FOLDER, FIGURES = ROOT / "docs" / "verdicts", ROOT / "docs" / "figures"
Kept = dict[str, Any]


@dataclass(frozen=True)
class Judgement:
    """A verdict among those of all claims of its paper that are kept.

    Arguments:
        word: the verdict. level: Holm's, of each one-sided test; 0 where the procedure has stopped before. alone: the
            verdict of the same numbers at the first level, that of a claim which is verified by itself. p_value: the
            largest of its statistics. family: how many claims are tested.
    """

    word: str
    level: float
    alone: str
    p_value: float
    family: int


@dataclass(frozen=True)
class _Entry:
    outcome: Outcome
    p_value: float


def read(path: Path) -> Kept | None:
    """The verdict in a file; None where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def both(id: str, folder: Path = FOLDER) -> tuple[Kept | None, Kept | None]:
    """The verdict that decides, and the second one."""
    return read(folder / f"{id}.json"), read(folder / f"{id}-second.json")


def seed_set(kept: Kept) -> int:
    """The set whose seeds a verdict rests on."""
    return int(kept["first_seed"]) // SEEDS_APART


def changed(kept: Kept) -> list[str]:
    """What a verdict was tested with and the code has otherwise: its statement, its criterion, what differs.

    At the size of a GPU the sweeps say what differs, and nothing is known of them here.
    """
    names = ("statement", "criterion", *(("differs",) if kept["scale"] != "gpu" else ()))
    return [name for name in names if kept[name] != getattr(CLAIMS[kept["id"]], name)]


def judged(verdicts: list[Kept]) -> dict[str, Judgement]:
    """Verdicts of one paper, by id, judged together from their kept p-values.

    What was verified in several sittings has levels of several calls, of which none knew all p-values.
    """
    entries = {
        one["id"]: [_Entry(entry["outcome"], entry["p_value"]) for entry in one["statistics"]]
        for one in verdicts
        if one["statistics"]
    }
    p_values = {id: max(entry.p_value for entry in own) for id, own in entries.items()}
    papers = {one["paper"] for one in verdicts}
    family = sum(claim.paper in papers and claim.experiment is not None for claim in CLAIMS.values())
    levels = holm_levels(p_values, family)
    first = 0.025 / max(family, 1)
    return {
        id: Judgement(
            joint_outcome(own, levels[id]), levels[id], joint_outcome(own, first), p_values[id], family
        )
        for id, own in entries.items()
    }  # fmt: skip


def figure_said(id: str) -> str | None:
    """The title of a claim's kept figure; None where there is none. Text that is drawn as paths is noted beside it."""
    path = FIGURES / f"{id}.svg"
    found = re.search(rf"<!-- ({re.escape(id)}: .*?) -->", path.read_text(encoding="utf-8")) if path.exists() else None
    return found[1] if found else None


def title(kept: Kept) -> str:
    """The title that a verdict's figure has if it was drawn with it."""
    return figure_title(kept["id"], kept["verdict"], kept["scale"], kept["seeds"], kept["first_seed"])
