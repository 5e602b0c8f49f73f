"""Verify the papers' claims on seeds never looked at, twice, and write the pages: `make verdicts`.

The development of an experiment uses seed set 0; sets 9 and 10 are the confirming runs, and share no seed with it,
with earlier rounds (1 to 8) or with each other. The second never decides: it shows whether a verdict is one of the
seeds. Sweeps that are stored are not run again, so the work can be done in several sittings; levels are computed anew
from all that is kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from kept_verdicts import FIGURES, FOLDER, ROOT, both, figure_said, read, seed_set, title
from verdict_pages import SWEEPS, moved_words, outdated, overview, paper_page
from verdict_rounds import ROUNDS

from noisescale.claims import CLAIMS, PAPERS, verify
from noisescale.claims.verify import SEEDS_APART
from noisescale.report import write_verdicts
from noisescale.store import Study

PAGE = ROOT / "docs" / "verdicts.md"
SETS = (9, 10)


def refuse_earlier() -> None:
    """Verdicts of earlier sets are not to be written over: they are moved, as they were found, to their round.

    Raises:
        SystemExit: there are such verdicts.
    """
    earlier = [kept for id in CLAIMS for kept in both(id) if kept and seed_set(kept) not in SETS]
    if earlier:
        found = ", ".join(map(str, sorted({seed_set(kept) for kept in earlier})))
        raise SystemExit(
            f"docs/verdicts holds verdicts of seed sets {found}: move them to docs/verdicts/{ROUNDS[-1].name} first"
        )


def gather(folder: Path, number: int) -> None:
    """Keep the verdicts of a folder, and the figures of those that decide.

    Arguments:
        folder: of the runs of one set. number: the set.
    """
    first = number == SETS[0]
    for id in CLAIMS:
        own = read(folder / f"{id}.json")
        if own is None:
            continue
        refuse_earlier()
        shutil.copy(folder / f"{id}.json", FOLDER / f"{id}{'' if first else '-second'}.json")
        if first and (figure := folder / f"{id}.svg").exists():
            shutil.copy(figure, FIGURES)
            if figure_said(id) != title(own):
                print(f"{id}: the figure says “{figure_said(id)}”, the verdict “{title(own)}”: run it again")


def keep_sweeps(folders: list[Path]) -> None:
    """Note what the sweeps in folders took, the shorter time where there are two.

    A sweep has a line of `times.jsonl` for every time that it was gone on with.
    """
    found: dict[str, dict[str, float]] = {}
    for times in sorted(path for folder in folders for path in folder.glob("*/times.jsonl")):
        lines = [json.loads(line) for line in times.read_text(encoding="utf-8").splitlines()]
        own = {
            "runs": len(Study.open(times.parent).runs()),
            "seconds": sum(line["wall"] for line in lines if line["command"] == "sweep"),
        }
        known = found.get(times.parent.name, own)
        found[times.parent.name] = min(own, known, key=lambda one: one["seconds"])
    if found:
        SWEEPS.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n", encoding="utf-8")


def write_pages() -> None:
    """The overview, a page a paper, and a page an earlier round, from what is kept."""
    PAGE.write_text(overview(), encoding="utf-8")
    for paper in PAPERS:
        (FOLDER / f"{paper}.md").write_text(paper_page(paper), encoding="utf-8")
    for own in ROUNDS:
        if (FOLDER / own.name).exists():
            (FOLDER / f"{own.name}.md").write_text(own.page(), encoding="utf-8")


def main() -> None:
    """Run what is asked for, paper by paper, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page-only", action="store_true", help="write the pages from the verdicts that are there")
    parser.add_argument("--papers", nargs="*", choices=list(PAPERS), default=list(PAPERS))
    parser.add_argument("--sets", nargs="*", type=int, choices=SETS, default=SETS)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "verdicts")
    chosen = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if not chosen.page_only:
        refuse_earlier()
    for number in () if chosen.page_only else chosen.sets:
        for paper in chosen.papers:
            out = chosen.runs / f"set-{number}"
            write_verdicts(verify([paper], scale="laptop", out=out, seed_set=number, said=print), out)
    for number in SETS:
        gather(chosen.runs / f"set-{number}", number)
    keep_sweeps([chosen.runs / f"set-{one}" / "studies" / f"laptop-{SEEDS_APART * one}" for one in SETS])
    write_pages()
    print("\n".join([*moved_words(), *outdated()]))


if __name__ == "__main__":
    main()
