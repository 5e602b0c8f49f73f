"""Measure the times of the command line and of the import, as ratios to an empty Python program."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "start_up.md"
NOISESCALE = [sys.executable, "-m", "noisescale"]
REPEATS = 7
SPEC = """
name = "start-up"
seeds = 10
[dataset]
name = "digits"
[model]
family = "mlp"
[grid]
width = [4, 8, 16, 32]
learning_rate = { from = 0.05, to = 3.2, factor = 2.0 }
batch_size = [16, 32]
[training]
steps = 20
"""


def seconds_and_megabytes(command: list[str]) -> tuple[float, float]:
    """Run a command several times, and return its median wall time and its peak memory."""
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    memory = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command], check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    return statistics.median(times[1:]), float(memory)


# Each command is measured in a separate process, because the peak over children never falls.
_MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))
"""


def table(folder: Path) -> str:
    """Measure every command and return the page."""
    empty, empty_memory = seconds_and_megabytes([sys.executable, "-c", "pass"])
    commands = {
        "`import noisescale`": [sys.executable, "-c", "import noisescale"],
        "`noisescale --version`": [*NOISESCALE, "--version"],
        "`noisescale --help`": [*NOISESCALE, "--help"],
        "`noisescale export --help`": [*NOISESCALE, "export", "--help"],
        "`noisescale status DIR`": [*NOISESCALE, "status", str(folder)],
    }
    lines = [
        "# Start-up",
        "",
        f"Written by `make start-up`. Median of {REPEATS} runs; an empty Python program takes {empty:.3f} s and "
        f"{empty_memory:.0f} MB on this machine.",
        "",
        "| command | times `python -c pass` | seconds | peak memory (MB) |",
        "|---|---|---|---|",
    ]
    for name, command in commands.items():
        taken, memory = seconds_and_megabytes(command)
        lines.append(f"| {name} | {taken / empty:.1f} | {taken:.2f} | {memory:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure on a given study, or on a small study that is trained first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, help="folder of a sweep")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.study
        if folder is None:
            folder, spec = Path(temporary) / "study", Path(temporary) / "spec.toml"
            spec.write_text(SPEC, encoding="utf-8")
            subprocess.run([*NOISESCALE, "sweep", str(spec), "--out", str(folder)], check=True)
        text = table(folder)
    RESULT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
