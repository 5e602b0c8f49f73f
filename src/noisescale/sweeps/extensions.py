"""Runs that the results ask for: rungs beyond an edge at which the optimum lies, and longer budgets.

The rule is replayed from the stated grid at every call and looks only at cells that are complete, so it is a function
of the results alone: a sweep that was interrupted anywhere wants the same runs as one that was not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from noisescale.runs import Run
from noisescale.sweeps.axes import rung
from noisescale.sweeps.grid import Grid, Point
from noisescale.training import METRICS

Axis = Literal["rate", "batch_size"]

# An optimum this close to an end of its ladder, in rungs, has no room for the window that locates it.
EDGE_RUNGS = 2

# Fewer values than this are no ladder, and have no ratio to go on with.
SHORTEST_LADDER = 3


def extension_runs(grid: Grid, found: pd.DataFrame) -> list[Run]:
    """The runs beyond the stated grid that are wanted, given what was found so far.

    A ladder whose best cell lies within two rungs of an end gets rungs there, up to `fit.max_edge_rungs`. A width whose
    deciding cells (the best and its neighbours) are not late then gets all its cells with twice the budget, up to
    `training.max_extensions` times.

    Args:
        grid: The spec's grid.
        found: `Study.finished()`.

    Returns:
        All wanted runs beyond the grid, finished ones included.
    """
    cells = _Cells(grid, found)
    groups: dict[Point, list[Point]] = defaultdict(list)
    longest = max(point.budget for point in grid.points())
    axis = ladder_axis(grid)
    for point in grid.points():
        if point.budget == longest:
            groups[replace(point, rate=0.0, batch_size=0)].append(point)
    wanted = [point for group in groups.values() for point in _extend(grid, cells, axis, group)]
    return [run for point in wanted for run in grid.cell(point)]


def ladder_axis(grid: Grid) -> Axis:
    """The longer of the two axes, along which the optimum is looked for."""
    axes = grid.spec.grid
    return "batch_size" if len(axes.batch_size) > len(getattr(axes, axes.rate_axis)) else "rate"


class _Cells:
    """Cells as the results fill them."""

    def __init__(self, grid: Grid, found: pd.DataFrame) -> None:
        self.grid = grid
        metric = grid.spec.fit.metric
        self.sign = METRICS[metric].sign
        self.records: dict[str, tuple[float, bool, bool]] = {}
        self.ids: dict[Point, list[str]] = {}
        if len(found):
            alive = (found.status == "completed") & ~found.collapsed.astype(bool)
            scores = found[f"{grid.spec.fit.select_on}_{metric}"].where(alive, found[f"chance_{metric}"])
            records = zip(scores.astype(float), alive, found.late, strict=True)
            self.records = dict(zip(found.run_id, records, strict=True))

    def are_complete(self, points: Iterable[Point]) -> bool:
        return all(run_id in self.records for point in points for run_id in self._run_ids(point))

    def is_begun(self, point: Point) -> bool:
        return any(run_id in self.records for run_id in self._run_ids(point))

    def best(self, ladder: list[Point]) -> int:
        """Position of the best cell; failed runs count at chance, cells without a value lose."""
        means = np.array([np.mean([score for score, _, _ in self._of(point)]) for point in ladder])
        return int(np.argmax(np.nan_to_num(self.sign * means, nan=-np.inf)))

    def are_settled(self, ladder: list[Point]) -> bool:
        """Whether the best cell and its neighbours are late; a cell with at most one seed alive has no later time."""
        best = self.best(ladder)
        for point in ladder[max(0, best - 1) : best + 2]:
            records = self._of(point)
            alive = sum(is_alive for _, is_alive, _ in records)
            if not (records[0][2] or alive < 2 <= len(records)):
                return False
        return True

    def _of(self, point: Point) -> list[tuple[float, bool, bool]]:
        return [self.records[run_id] for run_id in self._run_ids(point)]

    def _run_ids(self, point: Point) -> list[str]:
        if point not in self.ids:
            self.ids[point] = [run.run_id for run in self.grid.cell(point)]
        return self.ids[point]


def _extend(grid: Grid, cells: _Cells, axis: Axis, stated: list[Point]) -> list[Point]:
    """The wanted points of one group: everything equal but rate and batch.

    Reach, the number of rungs below and above each ladder, and level, the number of doublings, only grow, one of them
    in every turn, up to their limits.
    """
    ladders: dict[float, list[Point]] = defaultdict(list)
    for point in stated:
        ladders[point.batch_size if axis == "rate" else point.rate].append(point)
    beyond = {key: _rungs_beyond(grid, axis, ladder) for key, ladder in ladders.items()}
    reach = dict.fromkeys(ladders, (0, 0))
    level = 0
    wanted: list[Point] = []
    while True:
        now = {key: _longer(_reached(ladders[key], beyond[key], reach[key]), level) for key in ladders}
        points = [point for ladder in now.values() for point in ladder]
        wanted += points
        if not cells.are_complete(points):
            break
        further = {key: _needed(beyond[key], reach[key], len(now[key]), cells.best(now[key])) for key in now}
        if further == reach:
            further = {key: _begun(cells, beyond[key], reach[key], level) for key in now}
        if further != reach:
            reach = further
        elif level < grid.spec.training.max_extensions and not all(map(cells.are_settled, now.values())):
            level += 1
        else:
            break
    known = set(stated)
    return [point for point in dict.fromkeys(wanted) if point not in known]


def _rungs_beyond(grid: Grid, axis: Axis, ladder: list[Point]) -> tuple[list[Point], list[Point]]:
    """The rungs that may be added below and above a ladder, nearest first."""
    values = [getattr(point, axis) for point in ladder]
    if not grid.spec.fit.extend_edges or len(values) < SHORTEST_LADDER:
        return [], []
    ends = (values[0], values[0] / values[1]), (values[-1], values[-1] / values[-2])
    below, above = (_beyond(grid, axis, values, end, ratio) for end, ratio in ends)
    return [_at(ladder[0], axis, value) for value in below], [_at(ladder[0], axis, value) for value in above]


def _beyond(grid: Grid, axis: Axis, values: list[float], end: float, ratio: float) -> list[float]:
    """The values that go on from one end of a ladder, a batch size rounded to whole examples and as the grid allows."""
    further = [rung(end * ratio**step) for step in range(1, grid.spec.fit.max_edge_rungs + 1)]
    if axis == "rate":
        return further
    sizes = dict.fromkeys(round(value) for value in further)
    return [size for size in sizes if grid.can_train_on(size) and size not in values]


def _at(point: Point, axis: Axis, value: float) -> Point:
    return replace(point, rate=value) if axis == "rate" else replace(point, batch_size=int(value))


def _reached(ladder: list[Point], beyond: tuple[list[Point], list[Point]], reach: tuple[int, int]) -> list[Point]:
    return [*reversed(beyond[0][: reach[0]]), *ladder, *beyond[1][: reach[1]]]


def _longer(ladder: list[Point], level: int) -> list[Point]:
    return [replace(point, budget=(point.budget[0], point.budget[1] * 2**level)) for point in ladder]


def _needed(beyond: tuple[list[Point], list[Point]], reach: tuple[int, int], length: int, best: int) -> tuple[int, int]:
    """The reach at which the best cell would be two rungs from both ends, as far as there are rungs."""
    room = best, length - 1 - best
    below, above = (
        min(len(side), now + max(0, EDGE_RUNGS - rungs)) for side, now, rungs in zip(beyond, reach, room, strict=True)
    )
    return below, above


def _begun(
    cells: _Cells, beyond: tuple[list[Point], list[Point]], reach: tuple[int, int], level: int
) -> tuple[int, int]:
    """The reach of rungs that some seed has: they are wanted for every seed, though more seeds move the optimum."""
    below, above = (
        max([now, *(place + 1 for place, point in enumerate(_longer(side, level)) if cells.is_begun(point))])
        for side, now in zip(beyond, reach, strict=True)
    )
    return below, above
