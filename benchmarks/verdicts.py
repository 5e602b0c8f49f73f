"""Verify the papers' claims on seeds never looked at, twice, and write the pages: `make verdicts`.

The development of an experiment uses seed set 0; sets 3 and 4 are the confirming runs, and share no seed with it,
with the first round (1 and 2) or with each other. The second never decides: it shows whether a verdict is one of the
seeds. Sweeps that are stored are not run again, so the work can be done in several sittings.
"""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from noisescale.claims import CLAIMS, PAPERS, Claim, verify
from noisescale.claims.verify import SEEDS_APART
from noisescale.report import write_verdicts
from noisescale.store import Study

ROOT = Path(__file__).parents[1]
FOLDER, PAGE, FIGURES = ROOT / "docs" / "verdicts", ROOT / "docs" / "verdicts.md", ROOT / "docs" / "figures"
SWEEPS = FOLDER / "sweeps.json"
SETS = (3, 4)
# The first runs on set 3 had too few places for their lines (five and four rates for C1.1, six widths for the others),
# were supported alone and open among all claims of the paper, and were looked at. With two more rates, and two more
# widths, these claims are decided on set 4. So is C3.3, whose smallest batch had not learned in its first steps.
SETS_OF = dict.fromkeys(("C1.1", "C1.3", "C1.5", "C1.7", "C3.3"), (4, 3))
# Verdicts of sets 1 and 2, before a review of the experiments; kept as they were found, and not verdicts any more.
FIRST = FOLDER / "first-round"
REMARKS = {
    "C1.2": "20 seeds; alone it would be supported",
    "C1.5": "peaks at the ends of ladders counted",
    "C1.7": "alone it would be supported",
    "C1.9": "peaks at the ends of ladders counted",
    "C1.10": "best batches at the ends of the ladder counted",
    "C2.4": "the pair farthest off was chosen seed by seed, so that errors of both signs could cancel",
    "C2.6": "the control was chosen on the seeds that test it",
    "C2.11": "judged at the end with 10 %, the margin for rates; with that for equilibrium, 5 %, it fails: S moves too",
    "C3.3": "the best rate of the largest batch was the last of its ladder",
    "C3.5": "that the rate best for the loss falls was not asked for, and was not found",
    "C3.7": "best rates at the ends of ladders; a sign taken from the data was tested on one side",
    "C3.8": "the rate best for the training loss of the largest batch was the last of its ladder",
    "C4.2": "first seed by seed, 0.71 [0.51, 0.92], open; then, as here, of mean curves, on other seeds",
    "C4.7": "first with 20 seeds, open for one schedule; then, as here, with 40 others",
    "C4.8": "only the ends of runs decided; along training the coefficient is below 0",
}
ABOUT = textwrap.fill(
    "Criteria were committed before the runs that confirm them, on seeds that development never used. A verdict is "
    "`supported` only if every statistic lies in its region, with its whole 95 % interval and at Holm's level over "
    "all claims of a paper, and `contradicted` if a 95 % interval lies outside of it: a shown interval can lie "
    "inside and the verdict be open. Margins: 5 % at equilibrium, 10 % for rates, 0.25 for slopes that should be "
    "equal, 0.5 for slopes that should be 1 and not ½, max(½ point, a quarter of a detected control) for "
    "accuracies. A statement is known to us as read (in the paper), recalled (from memory) or derived (from the "
    "paper's equations). Set 3 of seeds decides and set 4 is second. C1.1, C1.3, C1.5 and C1.7 are decided on set "
    "4: their first runs on set 3 had two rates or two widths less, and C1.1, C1.3 and C1.7 were supported alone "
    "and open among all claims. For them the second set is 3, grown by those rates and widths: it had been looked "
    "at, and Holm's levels do not count that look. C1.4 was open in the same way and was left as it is. "
    "C3.3 is decided on set 4 with 4,000 steps and batches from 32 on: on set 3, with 2,000 and from 16 on, accuracy "
    "rose with the batch ([C3.3-shorter.json](verdicts/C3.3-shorter.json)), and the smallest batch had by far the "
    "highest training loss, after eight epochs. Its second set is 3 with the longer budget. "
    "`criterion_commit` of a JSON file is the last change of any claim's or law's code before the verdict was "
    "computed; stored sweeps can be older.",
    110,
)


def overview() -> str:
    """From the verdicts that are kept in docs/verdicts alone."""
    rows = []
    for paper in PAPERS:
        for claim in _of(paper):
            first, second = _both(claim.id)
            disputed = " (disputed)" if claim.disputed and first and first["verdict"] == "contradicted" else ""
            words = [
                f"**{first['verdict']}**{disputed}" if first else "not run",
                (second["verdict"] + (" (looked at)" if claim.id in SETS_OF else "")) if second else "–",
            ]
            rows.append(
                f"| [{claim.id}](verdicts/{paper}.md#{_anchor(claim)}) | {claim.statement} | {' | '.join(words)} |"
            )
    found = [_both(id) for id in CLAIMS]
    counts = Counter(first["verdict"] if first else "not run" for first, _ in found)
    both = [(first, second) for first, second in found if first and second]
    opposite = sum({first["verdict"], second["verdict"]} == {"supported", "contradicted"} for first, second in both)
    moved = [
        f"{first['id']} was {first['verdict']}, then {second['verdict']}"
        for first, second in both
        if first["verdict"] != second["verdict"]
    ]
    minutes = sum(first["seconds"] for first, _ in found if first) / 60
    return "\n".join(
        [
            "# Verdicts on the papers' claims",
            "",
            "Generated by `make verdicts` from [docs/verdicts](verdicts), on 2 cores.",
            ABOUT,
            "",
            f"First seeds: {', '.join(f'{count} {word}' for word, count in counts.most_common())}; "
            f"{minutes:.0f} minutes beside other work, without sweeps that were there already. {len(both)} claims were "
            f"run on a second set: {len(both) - len(moved)} had the same verdict"
            f"{''.join(f', {one}' for one in moved)}; {opposite} had the opposite one."
            f"{' The others have one set.' if len(both) < len(found) else ''}",
            "",
            "Seed sets 1 and 2 were a first round, in which a review of the experiments found faults; what it said is",
            "kept: [verdicts/first-round.md](verdicts/first-round.md).",
            "",
            *(f"- [{name}](verdicts/{paper}.md)" for paper, name in PAPERS.items()),
            "",
            "| id | statement | verdict | second seeds |",
            "|---|---|---|---|",
            *rows,
            "",
            *_sweeps(),
        ]
    )


def _sweeps() -> list[str]:
    """What the shared sweeps took, from what is kept of them."""
    if not SWEEPS.exists():
        return []
    kept = json.loads(SWEEPS.read_text(encoding="utf-8"))
    total = sum(one["seconds"] for one in kept.values()) / 60
    rows = [f"| {name} | {one['runs']:,} | {one['seconds']:.0f} |" for name, one in kept.items()]
    return [
        "## The sweeps", "",
        f"Several claims share a sweep, trained once. Wall time on 2 cores beside other work, {total:.0f} minutes in",
        "all; stability ladders included. The shorter of both seed sets' times.", "",
        "| sweep | runs | seconds |", "|---|---:|---:|", *rows, "",
    ]  # fmt: skip


def _keep_sweeps(folders: list[Path]) -> None:
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


def paper_page(paper: str) -> str:
    """Statement, figure, verdict, setting, what differs, and the command, of every claim of a paper."""
    lines = [f"# {PAPERS[paper]}", "", f"Generated by `make verdicts`. {ABOUT}", ""]
    for claim in _of(paper):
        first, second = _both(claim.id)
        lines += [f"## {claim.id}", "", claim.statement, ""]
        if first is None:
            lines += ["Not run.", ""]
            continue
        again = f"; with the second seeds {second['verdict']}" if second else ""
        note = f" {first['note'].capitalize()}." if first["note"] else ""
        lines += [f"**{first['verdict'].capitalize()}**{again}.{note}", ""]
        lines += [f"![{claim.id}](../figures/{claim.id}.svg)", "", *_table(first, second), ""]
        facts = {
            "Criterion": first["criterion"],
            "Setting": first["setting"],
            "Differs from the paper": claim.differs,
            "Disputed": claim.disputed,
            "Seeds and runs": f"{first['seeds']} seeds from {first['first_seed']}, {first['runs']:,} runs",
            "Also": "; ".join(f"{name}: {value:.4g}" for name, value in first["reported"].items() if value is not None),
            "Known to us as": first["source"],
            "Repeat": f"`noisescale verify {claim.id} --out DIR --seed-set {first['first_seed'] // SEEDS_APART}`",
        }
        lines += [f"- {name}: {value}" for name, value in facts.items() if value] + [""]
    return "\n".join(lines)


def first_round() -> str:
    """What was found before the review, and what the review said to it."""
    lines = [
        "# The first round",
        "",
        "Generated by `make verdicts` from [first-round](first-round). These are not verdicts: a review of the",
        "experiments came after them. Outcomes and intervals are as they were found, on seed set 1.",
        "",
        "| id | outcome | statistics, 95 % intervals | what the review found |",
        "|---|---|---|---|",
    ]
    for id in CLAIMS:
        found = json.loads((FIRST / f"{id}.json").read_text(encoding="utf-8"))
        shown = "; ".join(f"{one['name']}: {_shown(one)}" for one in found["statistics"])
        lines.append(f"| {id} | {found['verdict']} | {shown} | {REMARKS.get(id, '')} |")
    return "\n".join(lines) + "\n"


def _table(first: dict[str, Any], second: dict[str, Any] | None) -> list[str]:
    rows = ["| statistic | value, 95 % interval | second seeds | criterion | outcome |", "|---|---|---|---|---|"]
    for kind in ("statistics", "beside"):
        others = {one["name"]: one for one in second[kind]} if second else {}
        for one in first[kind]:
            other = others.get(one["name"])
            outcome = one["outcome"] if kind == "statistics" else f"({one['outcome']})"
            values = f"{_shown(one)} | {_shown(other) if other else '–'}"
            rows.append(f"| {one['name']} | {values} | {one['criterion'][14:]} | {outcome} |")
    if first["beside"]:
        rows += ["", "Outcomes in brackets decide nothing."]
    return rows


def _shown(one: dict[str, Any]) -> str:
    value, low, high = ("–" if one[name] is None else f"{one[name]:.4g}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _of(paper: str) -> list[Claim]:
    return [claim for claim in CLAIMS.values() if claim.paper == paper]


def _anchor(claim: Claim) -> str:
    return claim.id.lower().replace(".", "")


def _both(id: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The verdict that decides, and the second one."""
    first, second = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        for path in (FOLDER / f"{id}.json", FOLDER / f"{id}-second.json")
    )
    return first, second


def _gather(folder: Path, number: int) -> None:
    """Keep the verdicts of a folder, and the figures of those that decide."""
    for id in CLAIMS:
        first = number == SETS_OF.get(id, SETS)[0]
        verdict, figure = folder / f"{id}.json", folder / f"{id}.svg"
        if verdict.exists():
            shutil.copy(verdict, FOLDER / f"{id}{'' if first else '-second'}.json")
        if figure.exists() and first:
            shutil.copy(figure, FIGURES)


def main() -> None:
    """Run what is asked for, paper by paper, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page-only", action="store_true", help="write the pages from the verdicts that are there")
    parser.add_argument("--papers", nargs="*", choices=list(PAPERS), default=list(PAPERS))
    parser.add_argument("--sets", nargs="*", type=int, choices=SETS, default=SETS)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "verdicts")
    chosen = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for number in () if chosen.page_only else chosen.sets:
        for paper in chosen.papers:
            out = chosen.runs / f"set-{number}"
            write_verdicts(verify([paper], scale="laptop", out=out, seed_set=number, said=print), out)
    for number in SETS:
        _gather(chosen.runs / f"set-{number}", number)
    _keep_sweeps([chosen.runs / f"set-{one}" / "studies" / f"laptop-{SEEDS_APART * one}" for one in SETS])
    PAGE.write_text(overview(), encoding="utf-8")
    (FOLDER / "first-round.md").write_text(first_round(), encoding="utf-8")
    for paper in PAPERS:
        (FOLDER / f"{paper}.md").write_text(paper_page(paper), encoding="utf-8")


if __name__ == "__main__":
    main()
