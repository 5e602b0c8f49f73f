"""`make long-pack`: kill a pack of five minutes in its middle, five times, and compare it with one left alone.

Kills are SIGKILL of the whole process group at random moments; both sweeps run side by side, one thread each.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from disturbances.aftermath import same
from disturbances.processes import start, wait_until

from noisescale.runs import Run
from noisescale.store import Study
from noisescale.sweeps.checkpoints import CheckpointFile
from noisescale.sweeps.plan import Plan

RESULTS = Path(__file__).resolve().parent / "results" / "long_pack.md"

SPEC = """
name = "long-pack"
seeds = 16
[dataset]
name = "mnist1d"
[model]
family = "mlp"
depth = 2
[grid]
width = [64]
learning_rate = [0.5, 2.0]
batch_size = [16]
momentum = [0.9]
weight_decay = [1e-4]
[training]
steps = {steps}
schedule = {{ kind = "cosine", warmup = 0.05 }}
nesterov = true
clip_norm = 5.0
average = true
[fit]
extend_edges = false
[stability]
seeds = 0
"""


def main() -> int:
    """Run both sweeps, kill one of them, print the table and write it to `results/long_pack.md`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None, help="of the random moments (default: a new one)")
    parser.add_argument("--steps", type=int, default=200_000, help="of every run: how long the pack is")
    parser.add_argument("--apart", type=float, default=60.0, help="mean seconds between two kills")
    chosen = parser.parse_args()
    seed = random.randrange(10**6) if chosen.seed is None else chosen.seed
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = folder / "spec.toml"
        spec.write_text(SPEC.format(steps=chosen.steps), encoding="utf-8")
        calm = start(command(spec, folder / "calm"))
        began, rows = time.monotonic(), []
        for _ in range(chosen.kills):
            rows.append(kill(spec, folder / "killed", chance, chosen.apart))
            print(rows[-1], file=sys.stderr)
        restarted = time.monotonic()
        done = start(command(spec, folder / "killed")).wait() == 0
        after = time.monotonic() - restarted
        undisturbed = calm.wait() == 0
        seconds = Study.open(folder / "calm").runs().seconds
        facts = {
            "both sweeps finished with exit code 0": done and undisturbed,
            "every number of every run and of every curve is the same to the bit": same(
                folder / "killed", folder / "calm"
            ),
            "no checkpoint is left": not (folder / "killed" / "checkpoints").exists(),
        }
    text = "\n".join(
        [
            "# A long pack that is killed",
            "",
            f"`python benchmarks/long_pack.py --kills {chosen.kills} --seed {seed} --steps {chosen.steps}`: one pack",
            f"of {len(seconds)} MLPs, {chosen.steps:,} steps each, with momentum, decay, a schedule, clipping and",
            f"averages; {seconds.sum():.0f} s undisturbed. SIGKILL at random moments, then the same command.",
            "",
            "| killed after (s) | steps in the checkpoint | age of the checkpoint (s) |",
            "|---|---|---|",
            *rows,
            "",
            f"The last start took {after:.0f} s to the end; {time.monotonic() - began:.0f} s in all.",
            "",
            *(f"- {'yes' if holds else 'NO'}: {fact}" for fact, holds in facts.items()),
        ]
    )
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    return 0 if all(facts.values()) else 1


def kill(spec: Path, out: Path, chance: random.Random, apart: float) -> str:
    """Start the sweep, kill it at a random moment and say what it left."""
    driver = start(command(spec, out))
    began = time.monotonic()
    wait_until(lambda: driver.poll() is not None, chance.uniform(0.5, 1.5) * apart)
    moment, now = time.monotonic() - began, time.time()
    if driver.poll() is not None:
        return f"| nothing: it had finished after {moment:.0f} | | |"
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    file = CheckpointFile(out / "checkpoints", planned(out))
    found = file.path.stat().st_mtime if file.path.exists() else None
    known = file.read()
    age = "–" if found is None else f"{now - found:.0f}"
    return f"| {moment:.0f} | {known.state.step if known else 0:,} | {age} |"


def command(spec: Path, out: Path) -> list[str]:
    """The sweep as a user starts it, with two workers."""
    return [sys.executable, "-m", "noisescale", "sweep", str(spec), "--out", str(out), "--jobs", "2"]


def planned(out: Path) -> tuple[Run, ...]:
    """The runs of the one pack."""
    (pack,) = Plan(out / "plan.jsonl").packs.values()
    return pack.runs


if __name__ == "__main__":
    sys.exit(main())
