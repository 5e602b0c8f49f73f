"""`make faults`: kill a real sweep at random moments, again and again, and check that nothing is lost or done twice.

Kills are SIGKILL: of the whole process group (a power cut, an out-of-memory killer), of the driver alone, of one worker
alone. After them the sweep is run to its end and compared, run by run, with one that nobody disturbed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from noisescale.store import Study
from noisescale.sweeps.plan import Plan

RESULTS = Path(__file__).resolve().parent / "results" / "faults.md"

SPEC = """
name = "faults"
seeds = 6
[dataset]
name = "digits"
train_size = 1000
[model]
family = "mlp"
[grid]
width = {widths}
learning_rate = {{ from = 0.5, to = 4.0, factor = 2.0 }}
batch_size = [16, 32]
[training]
steps = {steps}
max_extensions = 1
[stability]
steps = 50
seeds = 2
batch_size = [16]
"""
WIDTHS, STEPS = (4, 8, 16, 32, 64, 128), 1500

# What a run's row says of the machine and the moment, not of the run.
CIRCUMSTANCES = ("seconds", "device", "threads", "versions")

# Workers whose driver died must be gone, or have finished their shard and then be gone, within this many seconds.
PATIENCE = 30.0


@dataclass(frozen=True)
class Fault:
    """One kill: what was killed, when, and what was found afterwards."""

    kind: str
    seconds: float
    finished: int
    unfinished_files: int
    ended: float

    def row(self) -> str:
        return f"| {self.kind} | {self.seconds:.1f} | {self.finished} | {self.unfinished_files} | {self.ended:.1f} |"


class Checks:
    """Named facts; the benchmark fails if one of them is false."""

    def __init__(self) -> None:
        self.facts: dict[str, bool] = {}

    def add(self, name: str, holds: bool) -> None:
        self.facts[name] = self.facts.get(name, True) and holds


def main() -> int:
    """Read the arguments, run, print the table and write it to `results/faults.md`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=10, help="kills of the whole process group")
    parser.add_argument("--seed", type=int, default=None, help="of the random moments (default: a new one)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of every run: how much there is to interrupt")
    arguments = parser.parse_args()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    kinds = ["group"] * arguments.kills + ["driver", "worker"]
    with tempfile.TemporaryDirectory() as folder:
        faults, checks, runs = torment(Path(folder), kinds, seed, arguments.steps)
    lines = [
        "# Sweeps that are killed",
        "",
        f"`python benchmarks/faults.py --kills {arguments.kills} --seed {seed} --steps {arguments.steps}`: {runs} runs "
        "in all; SIGKILL at random moments, and the same command again after each.",
        "",
        "| killed | after (s) | packs finished by then | files in writing left | processes gone after (s) |",
        "|---|---|---|---|---|",
        *(fault.row() for fault in faults),
        "",
        *(f"- {'yes' if holds else 'NO'}: {fact}" for fact, holds in checks.facts.items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
    return 0 if all(checks.facts.values()) else 1


def torment(
    folder: Path, kinds: Sequence[str], seed: int, steps: int, widths: Sequence[int] = WIDTHS
) -> tuple[list[Fault], Checks, int]:
    """Kill a sweep once for each kind, restart it each time, let it finish, and check what it left.

    Arguments:
        folder: for the spec and the sweeps. kinds: "group", "driver" or "worker". seed: of the moments.
        steps, widths: how much there is to interrupt.
    Returns:
        The kills, the checks, and the number of runs of the finished sweep.
    """
    chance = random.Random(seed)
    spec, out, calm = folder / "spec.toml", folder / "out", folder / "calm"
    spec.write_text(SPEC.format(steps=steps, widths=list(widths)), encoding="utf-8")
    checks, faults = Checks(), []
    for kind in kinds:
        before = shard_hashes(out)
        faults.append(interrupt(spec, out, kind, chance))
        checks.add(
            "packs that were finished before a kill are unchanged to the bit",
            before.items() <= shard_hashes(out).items(),
        )
        checks.add(f"no process is left {PATIENCE:.0f} s after a kill", faults[-1].ended < PATIENCE)
    before = shard_hashes(out)
    checks.add("the sweep that was killed finishes with exit code 0", start(spec, out).wait() == 0)
    checks.add(
        "packs that were finished before a kill are unchanged to the bit", before.items() <= shard_hashes(out).items()
    )
    checks.add("no temporary file is left", not unfinished(out))
    shards = [pd.read_parquet(path) for path in sorted((out / "shards").glob("*.parquet"))]
    ids = pd.concat([shard.run_id for shard in shards])
    planned = {run.run_id for pack in Plan(out / "plan.jsonl").packs.values() for run in pack.runs}
    checks.add("every planned run is there exactly once", sorted(ids) == sorted(planned))

    calm.mkdir()
    (calm / "shards").mkdir()
    for name in ("spec.json", "plan.jsonl"):
        shutil.copy(out / name, calm / name)
    checks.add("an undisturbed sweep with the same plan finishes with exit code 0", start(spec, calm).wait() == 0)
    checks.add("and trains the same packs", shard_hashes(calm).keys() == shard_hashes(out).keys())
    checks.add("and finds the same for every run, to the last digit", findings(out).equals(findings(calm)))
    return faults, checks, len(ids)


def interrupt(spec: Path, out: Path, kind: str, chance: random.Random) -> Fault:
    """Start the sweep, kill at a random moment what `kind` says, and wait until every process is gone."""
    driver = start(spec, out)
    began = time.monotonic()
    # From the first imports, or some packs later, to a moment in the training or writing of the next.
    packs = chance.randrange(5) if kind == "group" else chance.randrange(1, 4)
    before = len(shard_hashes(out))
    wait_until(lambda: driver.poll() is not None or len(shard_hashes(out)) >= before + packs, 120.0)
    wait_until(lambda: driver.poll() is not None, chance.uniform(0.0, 1.0 if packs else 6.0))
    moment = time.monotonic() - began
    if driver.poll() is not None:
        kind = "nothing: it had finished"
    elif kind == "group":
        os.killpg(driver.pid, signal.SIGKILL)
    else:
        os.kill(driver.pid if kind == "driver" else workers(driver.pid)[0], signal.SIGKILL)
    finished = len(shard_hashes(out))
    if kind == "worker":
        # The driver must survive this; it is given time to go on, and then interrupted as a person would.
        wait_until(lambda: driver.poll() is not None or len(shard_hashes(out)) > finished + 2, 60.0)
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGINT)
    since = time.monotonic()
    driver.wait()
    wait_until(lambda: not members(driver.pid), PATIENCE)
    return Fault(kind, moment, finished, len(unfinished(out)), time.monotonic() - since)


def start(spec: Path, out: Path) -> subprocess.Popen[bytes]:
    """The sweep as a user starts it, with two workers, in a process group of its own."""
    command = [sys.executable, "-m", "noisescale", "sweep", str(spec), "--out", str(out), "--jobs", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)


def members(group: int) -> list[int]:
    """The processes of a group that are not yet gone."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, process_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:  # it ended while we looked
                continue
            if int(process_group) == group and state != "Z":
                found.append(int(entry.name))
    return found


def workers(group: int) -> list[int]:
    """The worker processes of a driver."""
    found = []
    for process in members(group):
        try:
            command = (Path("/proc") / str(process) / "cmdline").read_text()
        except OSError:
            continue
        if "spawn_main" in command:
            found.append(process)
    return found


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds, at most so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not holds():
        time.sleep(0.02)


def shard_hashes(out: Path) -> dict[str, str]:
    """The digest of every finished shard."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (out / "shards").glob("*.parquet")}


def unfinished(out: Path) -> list[Path]:
    """Files that a killed writer left."""
    return list(out.rglob(".*.tmp"))


def findings(out: Path) -> pd.DataFrame:
    """What was found, run by run, without what differs from one machine or moment to the next."""
    runs = Study.open(out).runs()
    return runs.drop(columns=[*CIRCUMSTANCES]).sort_values("run_id", ignore_index=True)


if __name__ == "__main__":
    sys.exit(main())
