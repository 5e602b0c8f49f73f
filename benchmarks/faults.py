"""`make faults`: disturb real sweeps in every way there is, and check that nothing is lost and nothing done twice.

After each fault the same command is given again until the sweep is complete; it is then compared, run by run and
evaluation by evaluation, with one that nobody disturbed.
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

from disturbances import clock, cluster, damage, disk, rivals
from disturbances.aftermath import Aftermath, Undisturbed, aftermath
from disturbances.fault import Befall, NotHere, Report
from disturbances.kills import KILLED, kill
from disturbances.subject import Size, Subject

RESULTS = Path(__file__).resolve().parent / "results" / "faults.md"

# Kills of one sweep before the next is begun: this size takes more than so many to finish.
KILLS_OF_ONE = 10
LARGE = Size(widths=(4, 8, 16, 32), steps=600, seeds=4)
SMALL = Size(widths=(4, 8), steps=600, seeds=2)
# A pack of seconds: a Ray worker that is seen to train is still at it when the fault comes.
LONG = Size(widths=(4, 8), steps=6000, seeds=2)

# name: (what befalls, how large a sweep)
FAULTS: dict[str, tuple[Befall, Size]] = {
    "Ctrl-C": (partial(kill, kinds=["interrupt"] * 3), SMALL),
    "Ctrl-C twice": (partial(kill, kinds=["interrupt twice"] * 3), SMALL),
    "disk full": (disk.full_disk, SMALL),
    "file too large": (disk.small_files, SMALL),
    "no such place": (disk.proc, SMALL),
    "immutable folder": (disk.immutable, SMALL),
    "read-only folder": (disk.read_only, SMALL),
    "shards truncated": (partial(damage.damage, hurt="truncated"), SMALL),
    "shards flipped": (partial(damage.damage, hurt="flipped"), SMALL),
    "two drivers": (rivals.two_drivers, LARGE),
    "clock set back": (clock.set_back, SMALL),
    "Ray worker killed": (cluster.worker_killed, LONG),
    "Ray node removed": (cluster.node_removed, LONG),
}


@dataclass(frozen=True)
class Row:
    """A line of the table; without an aftermath the fault was not possible here, and `report.done` says why."""

    name: str
    report: Report
    after: Aftermath | None
    seconds: float

    @property
    def good(self) -> bool:
        return self.after is None or (self.after.good and all(self.report.also.values()))

    def line(self) -> str:
        if self.after is None:
            return f"| {self.name} | not possible here: {self.report.done} | – | – | – | – | – | – | – |"
        held = (self.after.kept, self.after.once, self.after.completes, self.after.equal)
        cells = (self.name, self.report.done, self.report.times, self.after.finished, *map(_yes, held))
        return "| " + " | ".join(map(str, cells)) + f" | {self.seconds:.0f} |"


def main() -> int:
    """Read the arguments, disturb, print the table and write it to `results/faults.md`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs of a driver, its group or a worker")
    parser.add_argument("--seed", type=int, default=None, help="of the random moments (default: a new one)")
    parser.add_argument("--only", nargs="*", choices=[*FAULTS, "kill -9"], help="these faults, without a written table")
    chosen = parser.parse_args()
    seed = random.randrange(10**6) if chosen.seed is None else chosen.seed
    rows: list[Row] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for row in disturb(Path(folder), chosen.kills, seed, chosen.only):
            print(row.line(), flush=True)
            rows.append(row)
    text = "\n".join(page(rows, f"--kills {chosen.kills} --seed {seed}", time.monotonic() - began)) + "\n"
    print(text)
    if chosen.only is None:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(text, encoding="utf-8")
    return 0 if all(row.good for row in rows) else 1


def disturb(folder: Path, kills: int, seed: int, only: list[str] | None) -> Iterator[Row]:
    """Every fault, each on a sweep of its own; first the kills, on as many sweeps as they need."""
    undisturbed = Undisturbed(folder / "undisturbed")
    if only is None or "kill -9" in only:
        left, sweeps = kills, 0
        while left and sweeps < 2 * kills:
            sweeps += 1
            chance = random.Random(f"{seed} {sweeps}")
            kinds = chance.sample(KILLED * KILLS_OF_ONE, min(left, KILLS_OF_ONE))
            subject = Subject(folder / f"kills-{sweeps}", LARGE)
            row = trial("kill -9", subject, partial(kill, kinds=kinds), chance, undisturbed)
            left -= row.report.times
            yield row
    for number, (name, (befall, size)) in enumerate(FAULTS.items()):
        if only is None or name in only:
            yield trial(name, Subject(folder / str(number), size), befall, random.Random(f"{seed} {name}"), undisturbed)


def trial(name: str, subject: Subject, befall: Befall, chance: random.Random, undisturbed: Undisturbed) -> Row:
    """One fault on one sweep, and what holds afterwards."""
    began = time.monotonic()
    try:
        report = befall(subject, chance)
    except NotHere as reason:
        return Row(name, Report(str(reason), 0), None, time.monotonic() - began)
    after = aftermath(subject, undisturbed)
    return Row(name, report, after, time.monotonic() - began)


def page(rows: list[Row], arguments: str, seconds: float) -> list[str]:
    """The table, and below it what had to hold while the faults came."""
    kills = [row for row in rows if row.name == "kill -9"]
    total = sum(row.report.times for row in kills)
    runs = sum(row.after.runs for row in rows if row.after is not None)
    lines = [
        "# Sweeps that are disturbed",
        "",
        f"`python benchmarks/faults.py {arguments}`: {total} times SIGKILL at random moments, in {len(kills)} sweeps,",
        f"and every other fault; {runs:,} runs in all, in {seconds / 60:.0f} minutes. After each fault the same",
        "command again, until the sweep is complete.",
        "",
        "Nothing lost: every shard that was finished before a fault is unchanged to the bit. Nothing twice: every",
        "planned run is in exactly one shard. Completes: exit code 0, no temporary file. Equal: every run and every",
        "evaluation is that of a sweep with the same plan that nobody disturbed, to the last digit.",
        "",
        "| fault | what was done | times | packs there before | nothing lost | nothing twice | completes | equal | s |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row.line() for row in rows),
        "",
        "And while it was done:",
        "",
    ]
    facts: dict[tuple[str, str], bool] = {}
    for row in rows:
        for fact, holds in row.report.also.items():
            facts[row.name, fact] = facts.get((row.name, fact), True) and holds
    return lines + [f"- {name}: {fact}: {_yes(holds)}" for (name, fact), holds in facts.items()]


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"


if __name__ == "__main__":
    sys.exit(main())
