"""Kill a pack of five minutes five times, and compare it with an undisturbed pack (`make long-pack`).

A kill is SIGKILL of the whole process group at a random moment. Both sweeps run at the same time, with one thread each.
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
    """Run both sweeps, kill one of them, and write the table to `results/long_pack.md`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None, help="seed of the random moments (default: random)")
    parser.add_argument("--steps", type=int, default=200_000, help="steps of every run")
    parser.add_argument("--apart", type=float, default=60.0, help="mean seconds between two kills")
    arguments = parser.parse_args()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = folder / "spec.toml"
        spec.write_text(SPEC.format(steps=arguments.steps), encoding="utf-8")
        undisturbed = start(command(spec, folder / "undisturbed"))
        began, rows = time.monotonic(), []
        for _ in range(arguments.kills):
            rows.append(kill(spec, folder / "killed", generator, arguments.apart))
            print(rows[-1], file=sys.stderr)
        restarted = time.monotonic()
        code = start(command(spec, folder / "killed")).wait()
        last_session = time.monotonic() - restarted
        undisturbed_code = undisturbed.wait()
        seconds = Study.open(folder / "undisturbed").runs().seconds
        equal = same(folder / "killed", folder / "undisturbed")
        facts = {
            "both sweeps finished with exit code 0": code == undisturbed_code == 0,
            "every number of every run and of every curve is identical to the bit": equal,
            "no checkpoint remains": not (folder / "killed" / "checkpoints").exists(),
        }
    text = "\n".join(
        [
            "# Killing a long pack",
            "",
            f"`python benchmarks/long_pack.py --kills {arguments.kills} --seed {seed} --steps {arguments.steps}`:",
            f"one pack of {len(seconds)} MLPs, {arguments.steps:,} steps each, with momentum, decay, a schedule,",
            f"clipping and averages. It takes {seconds.sum():.0f} s undisturbed. After each SIGKILL the same command",
            "continues it.",
            "",
            "| killed after (s) | steps in the checkpoint | age of the checkpoint (s) |",
            "|---|---|---|",
            *rows,
            "",
            f"The last session took {last_session:.0f} s; all sessions {time.monotonic() - began:.0f} s.",
            "",
            *(f"- {'yes' if holds else 'NO'}: {fact}" for fact, holds in facts.items()),
        ]
    )
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    return 0 if all(facts.values()) else 1


def kill(spec: Path, out: Path, generator: random.Random, apart: float) -> str:
    """Start the sweep, kill it at a random moment, and return a line of the table about its checkpoint.

    Args:
        spec: The spec file.
        out: Folder of the sweep.
        generator: Source of the random moment.
        apart: Mean time until the kill, in seconds.
    """
    driver = start(command(spec, out))
    began = time.monotonic()
    wait_until(lambda: driver.poll() is not None, generator.uniform(0.5, 1.5) * apart)
    moment, now = time.monotonic() - began, time.time()
    if driver.poll() is not None:
        return f"| not killed: it had finished after {moment:.0f} | | |"
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    file = CheckpointFile(out / "checkpoints", planned(out))
    age = f"{now - file.path.stat().st_mtime:.0f}" if file.path.exists() else "–"
    checkpoint = file.read()
    return f"| {moment:.0f} | {checkpoint.state.step if checkpoint else 0:,} | {age} |"


def command(spec: Path, out: Path) -> list[str]:
    """Return the command that sweeps with two workers."""
    return [sys.executable, "-m", "noisescale", "sweep", str(spec), "--out", str(out), "--jobs", "2"]


def planned(out: Path) -> tuple[Run, ...]:
    """Return the runs of the single pack."""
    (pack,) = Plan(out / "plan.jsonl").packs.values()
    return pack.runs


if __name__ == "__main__":
    sys.exit(main())
