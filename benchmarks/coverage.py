"""Measure the coverage of every interval that the package prints, on planted problems and on a study's design.

    python benchmarks/coverage.py --baseline ../noisescale-0.1/src
    python benchmarks/coverage.py --kinds tent cliff --draws 480
    python benchmarks/coverage.py --laws "scatter 0.2" saturating --law-draws 400
    python benchmarks/coverage.py --keep runs/coverage --workers 2
    python benchmarks/coverage.py --study DIR

Writes coverage.csv and coverage.md (with --study: coverage-NAME.csv and .md) to benchmarks/results/. A kind of planted
world falls short if the coverage of the place or of the height of its optimum, pooled over its designs, is
significantly below 94 % or above 98.5 %. The same holds for the slope of a law over widths and for its predictions on
planted families of widths. A draw of a family takes about half a second, so 600 draws of each of the 19 families take
about an hour on two cores. With `--keep`, a run that was interrupted goes on where it stopped, unless the package has
changed. The other intervals have a target of 0.92 to 0.98 over 500 draws; the standard error of the coverage is then
0.01.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from coverage_kinds import LEVEL, design_rows, kind_rows, measure_kind
from coverage_law_kinds import law_design_rows, law_kind_rows, measure_law_kind
from coverage_law_worlds import LAW_DESIGNS, LAW_WORLDS
from coverage_laws import other_rows
from coverage_study import study_rows
from coverage_table import Row, write
from coverage_worlds import DESIGNS, WORLDS

from noisescale.store.shards import write_atomically

T = TypeVar("T")
RESULTS = Path(__file__).parent / "results"
SOURCE = Path(__file__).parent.parent / "src"

LEAD = (
    f"Every kind has {len(DESIGNS)} designs: noise of 0.3, 0.7 and 1.4 points, 3, 5, 10 and 20 seeds, ladders of "
    "factor √2 and 2. Each draw places the optimum uniformly in an interval between two cells. **Too low** and **too "
    f"high** mark a coverage below 94 % or above 98.5 % (exact binomial test, level {LEVEL:g}). An open interval, or "
    "none, counts as a miss where the well-specified model (`reference`: the world's curve with free parameters) has a "
    "bounded interval. `baseline` is version 0.1 on the same draws. Half-widths are medians over the bounded "
    "intervals, in nats or in units of the metric."
)


LAW_LEAD = (
    "Six widths from 32 to 128 where nothing else is said, noise of 0.7 points, 3 and 10 seeds, ladders of factor √2 "
    "and 2. The `reference` knows the formula of the curves, the terms of the law and its scatter. At 4×, a law that "
    "bends within the trained widths must be covered or refused in 92 % of draws, and no other law may be refused in "
    "more than 10 %. Rows with another prior of the bend show how far an answer depends on it. For the regret, the "
    "coverage is the share of decisions whose true regret is within the bound of `expected_regret`; regrets are in "
    "points."
)


def main() -> None:
    """Draw all cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000, help="draws of each kind, over all its designs")
    parser.add_argument("--kinds", nargs="+", help="parts of the names of kinds; measures these kinds only")
    parser.add_argument("--laws", nargs="*", help="parts of the names of families; measures these families only")
    parser.add_argument("--law-draws", type=int, default=600, help="draws of each family, over all its designs")
    parser.add_argument("--seed", type=int, default=20, help="seed of the draws of the kinds")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the kinds")
    parser.add_argument("--keep", type=Path, help="folder that keeps the answers of each kind")
    parser.add_argument("--baseline", type=Path, help="folder src of a checkout of version 0.1")
    parser.add_argument("--other-draws", type=int, default=500, help="draws of each other case, and of a study")
    parser.add_argument("--seeds", type=int, nargs="+", default=[6, 10], help="numbers of seeds of the other cases")
    parser.add_argument("--study", type=Path, help="folder of a study whose design is simulated instead")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    started, name, lead = time.perf_counter(), "coverage", ""
    sections: dict[str, list[Row]]
    if arguments.study is not None:
        from noisescale.store import Study

        study = Study.open(arguments.study)
        name = f"coverage-{study.spec['name']}"
        heading = f"Coverage on the design of {study.spec['name']}, {arguments.other_draws} draws"
        sections = {"": [_shown(row) for row in study_rows(study, arguments.other_draws)]}
    else:
        everything = arguments.kinds is None and arguments.laws is None
        kinds = _named(WORLDS, [""] if everything else arguments.kinds or [])
        laws = _named(LAW_WORLDS, [""] if everything or arguments.laws == [] else arguments.laws or [])
        if not kinds and not laws:
            parser.error(f"no kind has such a name; the kinds are {', '.join([*WORLDS, *LAW_WORLDS])}")
        pooled, single, families, single_families = [], [], [], []
        options = {"seed": arguments.seed, "baseline": arguments.baseline}
        measure = partial(measure_kind, count=math.ceil(arguments.draws / len(DESIGNS)), **options)
        for answers in _measured(_kept(measure, arguments.keep), kinds, arguments.workers):
            pooled += [_shown(row) for row in kind_rows(answers)]
            single += design_rows(answers)
        measure_law = partial(measure_law_kind, count=math.ceil(arguments.law_draws / len(LAW_DESIGNS)), **options)
        for family in _measured(_kept(measure_law, arguments.keep), laws, arguments.workers):
            families += [_shown(row) for row in law_kind_rows(family)]
            single_families += law_design_rows(family)
        sections = {"Kinds": pooled, "Laws over widths": families}
        if everything:
            rows = [_shown(row) for seeds in arguments.seeds for row in other_rows(arguments.other_draws, seeds)]
            sections["Other intervals"] = rows
        sections |= {"Kinds by design": single, "Laws by design": single_families}
        sections = {title: rows for title, rows in sections.items() if rows}
        heading = f"Coverage on planted problems, {' and '.join(_counts(pooled, families))}"
        lead = "\n\n".join([LEAD] * bool(pooled) + [LAW_LEAD] * bool(families))
    write(sections, name, arguments.out, heading, lead)
    print(f"{arguments.out / name}.md written after {time.perf_counter() - started:.0f} s")


def _named(kinds: Iterable[str], parts: Sequence[str]) -> list[str]:
    """Return the kinds whose name contains one of the parts."""
    return [kind for kind in kinds if any(part in kind for part in parts)]


def _counts(pooled: Sequence[Row], families: Sequence[Row]) -> list[str]:
    """Describe the numbers of draws."""
    counts = [f"{pooled[0].draws} draws of each kind"] if pooled else []
    return counts + ([f"{families[0].draws} of each family of widths"] if families else [])


def _measured(measure: Callable[[str], T], kinds: Sequence[str], workers: int) -> Iterator[T]:
    """Yield what a function returns for each kind, which processes share."""
    if workers == 1:
        yield from map(measure, kinds)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(measure, kinds)


def _kept(measure: partial[T], folder: Path | None) -> Callable[[str], T]:
    """Return a function that measures a kind, or reads what the same version of the package measured before."""
    if folder is None:
        return measure
    folder.mkdir(parents=True, exist_ok=True)
    code = hashlib.sha256(repr((measure.func.__name__, sorted(measure.keywords.items()))).encode())
    for path in sorted([*SOURCE.rglob("*.py"), *Path(__file__).parent.glob("coverage_*.py")]):
        code.update(path.read_bytes())
    return partial(_read_or_measured, measure, folder / code.hexdigest()[:16])


def _read_or_measured(measure: partial[T], stem: Path, kind: str) -> T:
    path = stem.with_name(f"{stem.name}-{kind}.pickle")
    if path.exists():
        kept: T = pickle.loads(path.read_bytes())
        return kept
    answers = measure(kind)
    write_atomically(path, partial(pickle.dump, answers))
    return answers


def _shown(row: Row) -> Row:
    """Print a line of the table and return it."""
    print(
        f"{row.quantity:38} {row.case:42} S={row.seeds:<3} coverage {row.coverage:.3f}  open {row.unbounded:.2f}  "
        f"censored {row.censored:.2f}  excluded {row.excluded:.2f}  half-width {row.half_width:.3g}  "
        f"reference {row.reference_coverage:.3f} {row.reference_half_width:.3g}  "
        f"baseline {row.baseline_coverage:.3f} {row.baseline_half_width:.3g}  {row.note}",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
