"""The time of packs (runs that train together), from the first steps of some of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

from noisescale.errors import one_line
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.machine import Workers
from noisescale.sweeps.plan import Pack
from noisescale.sweeps.timed_steps import TIMED_SECONDS, time_pack
from noisescale.user_code import contained

# Seconds that all measurements may take together.
MEASURED_SECONDS = 10.0
_SHORTEST = 0.05
# Steps that choosing a kernel takes, apart from those that are timed.
_TRIAL_STEPS = 8
# Share of the time from which a note names the evaluations.
_MUCH = 0.5


def measure_packs(packs: Sequence[Pack], grid: Grid, workers: Workers) -> tuple[list[float], list[str]]:
    """Time the first steps of one pack of each shape, the costliest shapes first, as long as time is left.

    Args:
        packs: The packs.
        grid: The spec's grid.
        workers: The workers of this machine.

    Returns:
        Seconds of each pack, and notes: on packs whose runs are trained one at a time, and on evaluations that take
        more than half of the time. A pack of a shape that was not measured takes its planned time, multiplied by the
        ratio of its width, or else of all measurements.
    """
    started, ratios, notes = time.perf_counter(), dict[object, float](), dict[str, None]()
    evaluations = timed_seconds = 0.0
    by_shape: dict[object, list[Pack]] = {}
    for pack in packs:
        by_shape.setdefault(pack.runs[0].shape_key, []).append(pack)
    shapes = sorted(by_shape, key=lambda shape: -sum(pack.seconds for pack in by_shape[shape]))
    each = max(min(TIMED_SECONDS, MEASURED_SECONDS / max(len(shapes), 1) / 2), _SHORTEST)
    for shape in shapes:
        pack = max(by_shape[shape], key=lambda pack: len(pack.runs))
        ratio = median(ratios.values()) if ratios else 1.0
        left = MEASURED_SECONDS - (time.perf_counter() - started) - each
        if _TRIAL_STEPS * ratio * pack.seconds / pack.runs[0].steps > left:
            continue
        try:
            with contained():
                data = grid.data_of(pack.runs[0])
                timed = time_pack(pack, data, workers.device, workers.threads, each)
        except Exception as error:  # a user's module may raise anything
            notes[f"a pack of width {pack.runs[0].width} could not be timed: {one_line(error)}"] = None
            continue
        ratios[shape] = timed.seconds / pack.seconds
        of_shape = sum(other.seconds for other in by_shape[shape])
        timed_seconds += ratios[shape] * of_shape
        evaluations += ratios[shape] * of_shape * timed.evaluations / timed.seconds
        notes |= {timed.note: None} if timed.note else {}
    if evaluations > _MUCH * timed_seconds:
        share = f"about {100 * evaluations / timed_seconds:.0f} %"
        notes[f"evaluations take {share} of the time; a smaller training.evaluations makes the sweep faster"] = None
    of_width: dict[int, list[float]] = {}
    for shape, ratio in ratios.items():
        of_width.setdefault(by_shape[shape][0].runs[0].width, []).append(ratio)
    overall = median(ratios.values()) if ratios else 1.0

    def ratio_of(pack: Pack) -> float:
        width = pack.runs[0].width
        return ratios.get(pack.runs[0].shape_key, median(of_width[width]) if width in of_width else overall)

    return [pack.seconds * ratio_of(pack) for pack in packs], list(notes)
