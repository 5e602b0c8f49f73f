"""Measure the coverage of every interval that the package prints, on planted problems and on a study's design.

    python benchmarks/coverage.py --baseline ../noisescale-0.1/src
    python benchmarks/coverage.py --kinds tent cliff --draws 480
    python benchmarks/coverage.py --study DIR

Writes coverage.csv and coverage.md (with --study: coverage-NAME.csv and .md) to benchmarks/results/. A kind of planted
world falls short if the coverage of the place or of the height of its optimum, pooled over its designs, is
significantly below 94 % or above 98.5 %. The other intervals have a target of 0.92 to 0.98 over 500 draws; the
standard error of the coverage is then 0.01.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from coverage_kinds import LEVEL, design_rows, kind_rows, measure_kinds
from coverage_laws import other_rows
from coverage_study import study_rows
from coverage_table import Row, write
from coverage_worlds import DESIGNS, WORLDS

RESULTS = Path(__file__).parent / "results"

LEAD = (
    f"Every kind has {len(DESIGNS)} designs: noise of 0.3, 0.7 and 1.4 points, 3, 5, 10 and 20 seeds, ladders of "
    "factor √2 and 2. Each draw places the optimum uniformly in an interval between two cells. **Too low** and **too "
    f"high** mark a coverage below 94 % or above 98.5 % (exact binomial test, level {LEVEL:g}). An open interval, or "
    "none, counts as a miss where the well-specified model (`reference`: the world's curve with free parameters) has a "
    "bounded interval. `baseline` is version 0.1 on the same draws. Half-widths are medians over the bounded "
    "intervals, in nats or in units of the metric."
)


def main() -> None:
    """Draw all cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000, help="draws of each kind, over all its designs")
    parser.add_argument("--kinds", nargs="+", help="parts of the names of kinds; measures these kinds only")
    parser.add_argument("--seed", type=int, default=1, help="seed of the draws of the kinds")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the kinds")
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
        kinds = [kind for kind in WORLDS if not arguments.kinds or any(part in kind for part in arguments.kinds)]
        if not kinds:
            parser.error(f"--kinds: no kind has such a name; the kinds are {', '.join(WORLDS)}")
        pooled, single = [], []
        options = {"seed": arguments.seed, "workers": arguments.workers, "baseline": arguments.baseline}
        for answers in measure_kinds(kinds, arguments.draws, **options):
            pooled += [_shown(row) for row in kind_rows(answers)]
            single += design_rows(answers)
        sections = {"Kinds": pooled}
        if not arguments.kinds:
            rows = [_shown(row) for seeds in arguments.seeds for row in other_rows(arguments.other_draws, seeds)]
            sections["Other intervals"] = rows
        sections["Kinds by design"] = single
        heading, lead = f"Coverage on planted problems, {pooled[0].draws} draws of each kind", LEAD
    write(sections, name, arguments.out, heading, lead)
    print(f"{arguments.out / name}.md written after {time.perf_counter() - started:.0f} s")


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
