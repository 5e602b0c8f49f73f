"""Laws of version 0.1 on the draws of a kind, as JSON: `python coverage_law_baseline.py KIND DRAWS SEED`.

`coverage_baseline.run_baseline` runs this file with version 0.1 before the installed package.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import warnings

import numpy as np
from coverage_law_worlds import LAW_DESIGNS, LAW_WORLDS, LawDraw, LawWorld, law_draws

_LABELS = ("interior", "not_identified_high", "censored_high")


def _answers(world: LawWorld, draw: LawDraw) -> list[float]:
    """Return the middle of the law, then value, low and high end of the slope and of the log optimum at each target."""
    from noisescale.laws.optimum import optimum

    # Later versions have no such module.
    power_law = importlib.import_module("noisescale.laws.power_law").power_law
    # Version 0.1 leaves out every cell with a failed run.
    points = {width: optimum(draw.x, y, np.asarray(~failed.any(axis=0))) for width, (y, failed) in draw.tables.items()}
    rows = {width: point for width, point in points.items() if point.label in _LABELS}
    law = power_law(
        np.array(list(rows)),
        np.array([point.place.value for point in rows.values()]),
        np.array([point.standard_error for point in rows.values()]),
        degrees=np.array([point.seeds - 1.0 for point in rows.values()]),
        censored=np.array([point.censored for point in rows.values()], dtype=np.int64),
    )
    if law.status != "ok":
        return [math.nan] * (4 + 3 * len(world.targets))
    answers = [law.center, law.slope.value, law.slope.low, law.slope.high]
    for width in world.targets:
        estimate = law.at(width)
        answers += [math.log(max(end, 1e-300)) for end in (estimate.value, estimate.low, estimate.high)]
    return answers


def main() -> None:
    """Print the answers for all designs."""
    import noisescale

    kind, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    world = LAW_WORLDS[kind]
    rows = [[_answers(world, draw) for draw in law_draws(kind, design, count, seed)] for design in LAW_DESIGNS]
    print(json.dumps({"package": noisescale.__file__, "designs": rows}))


if __name__ == "__main__":
    main()
