"""Disturb real sweeps and check that nothing is lost or done twice (`make faults`).

After each fault the same command runs again until the sweep is complete. The sweep is then compared, run by run and
evaluation by evaluation, with an undisturbed sweep.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from disturbances import clock, cluster, damage, disk, hostile, rivals, suspended
from disturbances.aftermath import Aftermath, Undisturbed, aftermath
from disturbances.fault import Fault, NotPossible, Report
from disturbances.kills import KILLED, kill
from disturbances.subject import Size, Subject

RESULTS = Path(__file__).resolve().parent / "results" / "faults.md"

# Number of kills of one sweep before the next sweep starts. A sweep of the large size is not finished by then.
KILLS_PER_SWEEP = 10
LARGE = Size(widths=(4, 8, 16, 32), steps=600, seeds=4)
SMALL = Size(widths=(4, 8), steps=600, seeds=2)
# Packs take seconds, so that a Ray worker is still training when the fault happens.
LONG = Size(widths=(4, 8), steps=6000, seeds=2)

# The fault and the size of its sweep, by name of the fault.
FAULTS: dict[str, tuple[Fault, Size]] = {
    "Ctrl-C": (partial(kill, kinds=["interrupt"] * 3), SMALL),
    "Ctrl-C twice": (partial(kill, kinds=["interrupt twice"] * 3), SMALL),
    "disk full": (disk.full_disk, SMALL),
    "file too large": (disk.small_files, SMALL),
    "no such place": (disk.proc, SMALL),
    "immutable folder": (disk.immutable, SMALL),
    "read-only folder": (disk.read_only, SMALL),
    "shards truncated": (partial(damage.damage, kind="truncated"), SMALL),
    "shards flipped": (partial(damage.damage, kind="flipped"), SMALL),
    "two drivers": (rivals.two_drivers, LARGE),
    "clock set back": (clock.set_back, SMALL),
    "suspended": (suspended.suspend, LARGE),
    "links in the folder": (hostile.links, SMALL),
    "forged footers": (hostile.forged_footer, SMALL),
    "plan removed": (hostile.removed_plan, SMALL),
    "code edited": (hostile.edited_code, Size(widths=(4, 8), steps=600, seeds=2, family="edited_model:model")),
    "Ray worker killed": (cluster.worker_killed, LONG),
    "Ray node removed": (cluster.node_removed, LONG),
}


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        name: Name of the fault.
        report: Report of the fault. If the fault was not possible, the description gives the reason.
        after: Checks after the fault, or None if the fault was not possible.
        seconds: Duration of the fault and its checks, in seconds.
    """

    name: str
    report: Report
    after: Aftermath | None
    seconds: float

    @property
    def passed(self) -> bool:
        """True if all checks passed, or if the fault was not possible."""
        return self.after is None or (self.after.passed and all(self.report.checks.values()))

    def line(self) -> str:
        """Format the line."""
        if self.after is None:
            return f"| {self.name} | not possible here: {self.report.description} | – | – | – | – | – | – | – |"
        checks = (self.after.kept, self.after.once, self.after.completes, self.after.equal)
        cells = (self.name, self.report.description, self.report.times, self.after.finished, *map(_yes, checks))
        return "| " + " | ".join(map(str, cells)) + f" | {self.seconds:.0f} |"


def main() -> int:
    """Disturb sweeps and write the table to `results/faults.md`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=100, help="number of SIGKILLs to a driver, its group or a worker")
    parser.add_argument("--seed", type=int, default=None, help="seed of the random moments (default: random)")
    parser.add_argument(
        "--only", nargs="*", choices=[*FAULTS, "kill -9"], help="only these faults; the table is not written"
    )
    arguments = parser.parse_args()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    rows: list[Row] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for row in disturb(Path(folder), arguments.kills, seed, arguments.only):
            print(row.line(), flush=True)
            rows.append(row)
    text = "\n".join(page(rows, f"--kills {arguments.kills} --seed {seed}", time.monotonic() - began)) + "\n"
    print(text)
    if arguments.only is None:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(text, encoding="utf-8")
    return 0 if all(row.passed for row in rows) else 1


def disturb(folder: Path, kills: int, seed: int, only: list[str] | None) -> Iterator[Row]:
    """Yield one row per fault. Every fault has a separate sweep. The kills come first and can need several sweeps.

    Args:
        folder: Folder of the sweeps.
        kills: Number of kills.
        seed: Seed of the random moments.
        only: Names of the faults; None for all.
    """
    undisturbed = Undisturbed(folder / "undisturbed")
    if only is None or "kill -9" in only:
        remaining, sweeps = kills, 0
        while remaining and sweeps < 2 * kills:
            sweeps += 1
            generator = random.Random(f"{seed} {sweeps}")
            kinds = generator.sample(KILLED * KILLS_PER_SWEEP, min(remaining, KILLS_PER_SWEEP))
            subject = Subject(folder / f"kills-{sweeps}", LARGE)
            row = trial("kill -9", subject, partial(kill, kinds=kinds), generator, undisturbed)
            remaining -= row.report.times
            yield row
    for number, (name, (fault, size)) in enumerate(FAULTS.items()):
        if only is None or name in only:
            yield trial(name, Subject(folder / str(number), size), fault, random.Random(f"{seed} {name}"), undisturbed)


def trial(name: str, subject: Subject, fault: Fault, generator: random.Random, undisturbed: Undisturbed) -> Row:
    """Apply a fault to a sweep and check the sweep afterwards.

    Args:
        name: Name of the fault.
        subject: The sweep.
        fault: The fault.
        generator: Random generator.
        undisturbed: Undisturbed sweeps for the comparison.
    """
    began = time.monotonic()
    try:
        report = fault(subject, generator)
    except NotPossible as reason:
        return Row(name, Report(str(reason), 0), None, time.monotonic() - began)
    after = aftermath(subject, undisturbed)
    return Row(name, report, after, time.monotonic() - began)


def page(rows: list[Row], options: str, seconds: float) -> list[str]:
    """Format the page, with the table and the checks during the faults.

    Args:
        rows: Lines of the table.
        options: Options of the command.
        seconds: Duration of all faults, in seconds.
    """
    kills = [row for row in rows if row.name == "kill -9"]
    total = sum(row.report.times for row in kills)
    runs = sum(row.after.runs for row in rows if row.after is not None)
    lines = [
        "# Faults",
        "",
        f"`python benchmarks/faults.py {options}`: {total} SIGKILLs at random moments in {len(kills)} sweeps,",
        f"and every other fault; {runs:,} runs in {seconds / 60:.0f} minutes. After each fault the same command runs",
        "again until the sweep is complete.",
        "",
        "Nothing lost: every shard that was finished before a fault is unchanged, to the bit. Nothing doubled: every",
        "planned run is in exactly one shard. Completes: exit code 0, and no temporary file remains. Equal: every run",
        "and every evaluation equals that of an undisturbed sweep with the same plan, to the last digit.",
        "",
        "| fault | what was done | times | packs before | nothing lost | nothing doubled | completes | equal | s |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row.line() for row in rows),
        "",
        "Checks during the faults:",
        "",
    ]
    facts: dict[tuple[str, str], bool] = {}
    for row in rows:
        for fact, holds in row.report.checks.items():
            facts[row.name, fact] = facts.get((row.name, fact), True) and holds
    return lines + [f"- {name}: {fact}: {_yes(holds)}" for (name, fact), holds in facts.items()]


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"


if __name__ == "__main__":
    sys.exit(main())
