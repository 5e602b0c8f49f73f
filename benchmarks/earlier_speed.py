"""Time the packed trainer beside that of another checkout of the repository (`earlier_speed.py FOLDER`).

Both train the same networks in processes of their own with one thread, by turns of a quarter of a second. A third
process trains the other checkout once more: its ratio to the second shows what the machine adds. The table has medians
of the ratios, with their quartiles.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import speed

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "earlier_speed.md"
# Width, batch, runs and inputs.
ROWS = [astuple(row) for row in speed.ROWS]
# The packages and the contestants of a checkout are found through its folder, so that each process has its own.
_SERVER = """
import json, sys, time
root, rows, seconds = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
sys.path[:0] = [root + "/src", root + "/benchmarks"]
import torch
torch.set_num_threads(1)
import noisescale
from contestants import Row, Trainer
assert noisescale.__file__.startswith(root), noisescale.__file__
rows = [Row(*row) for row in rows]
trainers = [Trainer(row) for row in rows]
print("ready", flush=True)
for line in sys.stdin:
    row, trainer = rows[int(line)], trainers[int(line)]
    calls, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        trainer.advance()
        calls += 1
    print(calls * row.steps * row.runs / (time.perf_counter() - begin), flush=True)
"""


class Checkout:
    """A process that trains with the code of a checkout.

    Args:
        folder: The checkout.
        seconds: Time of one turn.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        command = [sys.executable, "-c", _SERVER, str(folder.resolve()), json.dumps(ROWS), str(seconds)]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    def speed(self, row: int) -> float:
        """Return the run-steps per second of a turn."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{row}\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("a checkout could not train")
        return line


def main() -> None:
    """Time every row and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--seconds", type=float, default=0.25, help="time of one turn")
    options = parser.parse_args()
    other = subprocess.run(
        ["git", "log", "-1", "--format=%h of %cs"], cwd=options.folder, capture_output=True, text=True, check=True
    ).stdout.strip()
    checkouts = [Checkout(folder, options.seconds) for folder in (ROOT, options.folder, options.folder)]
    lines = [
        "# Speed beside an earlier version", "", *(__doc__ or "").splitlines()[2:], "",
        f"The other checkout is {other}.", "",
        "| width, batch, runs, inputs | this version / the other | the other once more / the other |", "|---|---|---|",
    ]  # fmt: skip
    for index, row in enumerate(ROWS):
        rounds = [_round(checkouts, index, turn) for turn in range(options.rounds)]
        cells = [_ratio([speeds[k] / speeds[1] for speeds in rounds]) for k in (0, 2)]
        lines.append(f"| {', '.join(map(str, row))} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    for checkout in checkouts:
        checkout.close()
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _round(checkouts: list[Checkout], row: int, turn: int) -> list[float]:
    """Return the speed of each checkout, which begin in turn."""
    order = [(turn + k) % len(checkouts) for k in range(len(checkouts))]
    speeds = {k: checkouts[k].speed(row) for k in order}
    return [speeds[k] for k in range(len(checkouts))]


def _ratio(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
