"""Verify the papers' claims twice, on seeds that development never used, and store the verdicts (`make verdicts`).

Experiments are developed on seed set 0. Set 9 decides. Set 10 only shows how much a verdict depends on its seeds. The
two sets share no seed with each other or with the earlier rounds (sets 1 to 8). Stored sweeps are not trained again, so
the work can be split over several sittings.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from noisescale.claims import CLAIMS, PAPERS, SEEDS_APART, verify
from noisescale.report import write_verdict_pages
from noisescale.store import Study

ROOT = Path(__file__).resolve().parent.parent
STORED, FIGURES = ROOT / "docs" / "verdicts", ROOT / "docs" / "figures"
SETS = (9, 10)


def refuse_other_sets(stored: Path = STORED) -> None:
    """Stop before verdicts of other seed sets are overwritten.

    Raises:
        SystemExit: The folder has verdicts of seed sets other than `SETS`.
    """
    first_seeds = [json.loads(path.read_text(encoding="utf-8"))["first_seed"] for path in stored.glob("C*.json")]
    if others := sorted({seed // SEEDS_APART for seed in first_seeds} - set(SETS)):
        raise SystemExit(
            f"docs/verdicts must hold verdicts of seed sets {SETS[0]} and {SETS[1]} only. Got: verdicts of seed sets "
            f"{', '.join(map(str, others))}. Describe them in docs/verdicts-history.md and remove them first."
        )


def gather(folder: Path, number: int) -> None:
    """Copy the verdicts of a folder to docs/verdicts. Also copy the figures if this seed set decides.

    Args:
        folder: Folder in which the claims were verified.
        number: Number of the seed set.
    """
    refuse_other_sets()
    decides = number == SETS[0]
    for claim_id in CLAIMS:
        verdict, figure = folder / f"{claim_id}.json", folder / f"{claim_id}.svg"
        if verdict.exists():
            shutil.copy(verdict, STORED / f"{claim_id}{'' if decides else '-second'}.json")
        if verdict.exists() and figure.exists() and decides:
            shutil.copy(figure, FIGURES)


def store_times(folders: list[Path]) -> None:
    """Store the training time of each sweep. If two seed sets have a sweep of one name, store the shorter time.

    A sweep writes a line to `times.jsonl` each time it is started or continued.
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
    if sweeps:
        text = json.dumps(dict(sorted(sweeps.items())), indent=1)
        (STORED / "sweeps.json").write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Verify the chosen papers on the chosen sets, and store the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--papers", nargs="*", choices=list(PAPERS), default=list(PAPERS))
    parser.add_argument("--sets", nargs="*", type=int, choices=SETS, default=SETS)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "verdicts")
    arguments = parser.parse_args()
    STORED.mkdir(exist_ok=True)
    refuse_other_sets()
    for number in arguments.sets:
        for paper in arguments.papers:
            out = arguments.runs / f"set-{number}"
            write_verdict_pages(verify([paper], scale="laptop", out=out, seed_set=number, log=print), out)
    for number in SETS:
        gather(arguments.runs / f"set-{number}", number)
    store_times([arguments.runs / f"set-{number}" / "studies" / f"laptop-{SEEDS_APART * number}" for number in SETS])


if __name__ == "__main__":
    main()
