"""Intervals of version 0.1 on the draws of a kind, as JSON: `python coverage_baseline.py KIND DRAWS SEED`.

`coverage.py --baseline PATH` runs this file with PATH, the folder `src` of a checkout of version 0.1, before the
installed package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from coverage_worlds import DESIGNS, Array, Draw, draws


def baseline_intervals(source: Path, kind: str, count: int, seed: int) -> list[Array]:
    """Return the intervals of version 0.1 for each design, shape [draws, 4]: place and height, low and high ends.

    Args:
        source: Folder `src` of a checkout of version 0.1.
        kind: Key of `WORLDS`.
        count: Number of draws of each design.
        seed: Seed of the draws.
    """
    return run_baseline(source, __file__, kind, count, seed)


def run_baseline(source: Path, program: str, kind: str, count: int, seed: int) -> list[Array]:
    """Run a program with version 0.1, and return the array that it prints for each design.

    Args:
        source: Folder `src` of a checkout of version 0.1.
        program: Path of the program, whose arguments are the kind, the number of draws and the seed.
        kind: Name of a kind of planted world.
        count: Number of draws of each design.
        seed: Seed of the draws.
    """
    command = [sys.executable, program, kind, str(count), str(seed)]
    environment = os.environ | {"PYTHONPATH": str(source.resolve())}
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    answer = json.loads(result.stdout)
    if not Path(answer["package"]).resolve().is_relative_to(source.resolve()):
        raise SystemExit(f"--baseline: {source} does not contain the package; {answer['package']} was imported")
    return [np.array(rows, dtype=np.float64) for rows in answer["designs"]]


def _intervals(draw: Draw) -> list[float]:
    from noisescale.laws.optimum import optimum

    # Version 0.1 leaves out every cell with a failed run.
    point = optimum(draw.x, draw.y, np.asarray(~draw.failed.any(axis=0)))
    return [point.place.low, point.place.high, point.height.low, point.height.high]


def main() -> None:
    """Print the intervals of all designs."""
    import noisescale

    kind, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    rows = [[_intervals(draw) for draw in draws(kind, design, count, seed)] for design in DESIGNS]
    print(json.dumps({"package": noisescale.__file__, "designs": rows}))


if __name__ == "__main__":
    main()
