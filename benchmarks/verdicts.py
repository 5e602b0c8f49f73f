"""Verify the papers' claims twice, on seeds that development never used, and store the verdicts (`make verdicts`).

Experiments are developed on seed set 0. One set decides. Another set only shows how much a verdict depends on its
seeds. The sets share no seed with each other or with earlier rounds. Where the estimators of a claim have changed since
its sets were looked at, two new sets decide. The claim is also verified on the sets that had been seen, so that the
estimators are compared on the same runs. Stored sweeps are not trained again, so the work can be split over several
sittings.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from noisescale.claims import CLAIMS, SEEDS_APART, verify
from noisescale.report import write_verdict_pages
from noisescale.store import Study

ROOT = Path(__file__).resolve().parent.parent
STORED, FIGURES = ROOT / "docs" / "verdicts", ROOT / "docs" / "figures"
COMPARED = STORED / "compared"
# The set that decides, then the second.
SETS = (9, 10)
# Claims whose estimators have changed since these sets were looked at, and their new sets.
CHANGED, NEW_SETS = ("C1.1", "C1.3", "C1.5", "C1.7"), (11, 12)


def sets_of(claim_id: str) -> tuple[int, int]:
    """Return the seed set that decides a claim, and the second."""
    return NEW_SETS if claim_id in CHANGED else SETS


def refuse_other_sets(stored: Path = STORED) -> None:
    """Stop before verdicts of other seed sets are overwritten.

    Raises:
        SystemExit: The folder has a verdict on a seed set that is not among the sets of its claim.
    """
    for path in sorted(stored.glob("C*.json")):
        verdict = json.loads(path.read_text(encoding="utf-8"))
        number, sets = verdict["first_seed"] // SEEDS_APART, sets_of(verdict["id"])
        if number not in sets:
            raise SystemExit(
                f"{path} must hold a verdict on seed set {sets[0]} or {sets[1]}. Got: a verdict on seed set {number}. "
                "Describe it in docs/verdicts-history.md and remove it first."
            )


def gather(folder: Path, claim_ids: Sequence[str], number: int) -> None:
    """Copy verdicts from a folder to docs/verdicts. Also copy the figures if this seed set decides.

    Args:
        folder: Folder in which the claims were verified.
        claim_ids: The claims.
        number: Number of the seed set.
    """
    for claim_id in claim_ids:
        verdict, figure = folder / f"{claim_id}.json", folder / f"{claim_id}.svg"
        if not verdict.exists():
            continue
        decides, second = sets_of(claim_id)
        if number not in (decides, second):
            COMPARED.mkdir(exist_ok=True)
            shutil.copy(verdict, COMPARED / f"{claim_id}-{number}.json")
            continue
        shutil.copy(verdict, STORED / f"{claim_id}{'' if number == decides else '-second'}.json")
        if number == decides and figure.exists():
            shutil.copy(figure, FIGURES)


def store_times(folders: list[Path]) -> None:
    """Store the training time of each sweep. If two seed sets have a sweep of one name, store the shorter time.

    Times of other sweeps are kept. A sweep writes a line to `times.jsonl` each time it is started or continued.
    """
    sweeps: dict[str, dict[str, float]] = {}
    for times in sorted(path for folder in folders for path in folder.glob("*/times.jsonl")):
        sessions = [json.loads(line) for line in times.read_text(encoding="utf-8").splitlines()]
        sweep = {
            "runs": len(Study.open(times.parent).runs()),
            "seconds": sum(session["wall"] for session in sessions if session["command"] == "sweep"),
        }
        name = times.parent.name
        sweeps[name] = min(sweep, sweeps.get(name, sweep), key=lambda entry: entry["seconds"])
    path = STORED / "sweeps.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if sweeps:
        path.write_text(f"{json.dumps(dict(sorted((earlier | sweeps).items())), indent=1)}\n", encoding="utf-8")


def main() -> None:
    """Verify the chosen claims on their sets, and store the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", nargs="*", choices=list(CLAIMS), default=list(CLAIMS))
    parser.add_argument("--sets", nargs="*", type=int, choices=SETS + NEW_SETS, default=SETS + NEW_SETS)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "verdicts")
    arguments = parser.parse_args()
    STORED.mkdir(exist_ok=True)
    refuse_other_sets()
    for number in arguments.sets:
        ids = [claim_id for claim_id in arguments.claims if number in (*SETS, *sets_of(claim_id))]
        out = arguments.runs / f"set-{number}"
        if ids:
            write_verdict_pages(verify(ids, scale="laptop", out=out, seed_set=number, log=print), out)
            gather(out, ids, number)
    folders = [
        arguments.runs / f"set-{number}" / "studies" / f"laptop-{SEEDS_APART * number}" for number in arguments.sets
    ]
    store_times([folder for folder in folders if folder.exists()])


if __name__ == "__main__":
    main()
