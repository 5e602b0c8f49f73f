"""Extensions of a grid: further rungs where the optimum lies near an end of a ladder, and longer budgets.

A ladder is the sequence of rates (or batch sizes) that the spec states at otherwise equal settings. Its values are
rungs, and the runs at a rung, one for each seed, form a cell. Every call replays the rule from the stated grid and
reads only cells with results for all seeds. The extensions therefore depend on the results alone, and an interrupted
sweep plans the same runs as an undisturbed sweep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from noisescale.runs import Run
from noisescale.store import diverged_or_collapsed, fill_failures
from noisescale.sweeps.axes import rung
from noisescale.sweeps.grid import Grid, Point
from noisescale.training import METRICS

Axis = Literal["rate", "batch_size"]

# Smallest distance, in rungs, of an optimum from the ends of its ladder. The fit of the optimum needs this many rungs
# on each side.
END_MARGIN = 2

# Smallest number of values of a ladder that is extended. Further rungs continue the ratio of its values.
MIN_LADDER = 3


def extension_runs(grid: Grid, results: pd.DataFrame) -> list[Run]:
    """List the runs beyond the stated grid that the results so far require.

    A ladder whose best cell is less than two rungs from an end gets further rungs there, up to `fit.max_edge_rungs`.
    Then, if the best cell or one of its neighbours has not converged, all cells of the width train again with twice the
    budget, up to `training.max_extensions` times.

    Args:
        grid: The spec's grid.
        results: `Study.finished()`.

    Returns:
        All runs beyond the grid, including finished runs.
    """
    cells = Cells(grid, results)
    return [
        run for group in ladder_groups(grid) for point in added_points(grid, cells, group) for run in grid.cell(point)
    ]


def ladder_groups(grid: Grid) -> list[list[Point]]:
    """Return the stated points with the longest budget, grouped by all coordinates but rate and batch size."""
    groups: dict[Point, list[Point]] = defaultdict(list)
    longest = max(point.budget for point in grid.points())
    for point in grid.points():
        if point.budget == longest:
            groups[replace(point, rate=0.0, batch_size=0)].append(point)
    return list(groups.values())


def ladder_axis(grid: Grid) -> Axis:
    """Return the longer of the two axes, along which the optimum is located."""
    axes = grid.spec.grid
    return "batch_size" if len(axes.batch_size) > len(getattr(axes, axes.rate_axis)) else "rate"


class Cells:
    """The cells of a grid with their results so far.

    Args:
        grid: The spec's grid.
        results: `Study.finished()`.
    """

    def __init__(self, grid: Grid, results: pd.DataFrame) -> None:
        self.grid = grid
        metric = grid.metric
        self.sign = METRICS[metric].sign
        self.records: dict[str, tuple[float, bool, bool]] = {}
        self.ids: dict[Point, list[str]] = {}
        if len(results):
            failed = diverged_or_collapsed(results)
            scores = fill_failures(results, f"{grid.spec.fit.select_on}_{metric}", metric, failed)
            records = zip(scores, ~failed, results.late, strict=True)
            self.records = dict(zip(results.run_id, records, strict=True))

    def have_all_runs(self, points: Iterable[Point]) -> bool:
        """Return whether every run of these cells has finished."""
        return all(run_id in self.records for point in points for run_id in self._run_ids(point))

    def has_results(self, point: Point) -> bool:
        """Return whether at least one run of a cell has finished."""
        return any(run_id in self.records for run_id in self._run_ids(point))

    def has_trained(self, point: Point) -> bool:
        """Return whether at least one run of a cell finished without divergence or collapse."""
        return any(trained for _, trained, _ in self._records(point))

    def best(self, ladder: list[Point]) -> int:
        """Return the position of the best cell. Runs that diverged or collapsed count as the constant predictor."""
        means = np.array([np.mean([score for score, _, _ in self._records(point)]) for point in ladder])
        return int(np.argmax(np.nan_to_num(self.sign * means, nan=-np.inf)))

    def have_converged(self, ladder: list[Point]) -> bool:
        """Return whether the best cell and its neighbours have converged.

        A cell also passes if at most one of its two or more seeds trained without divergence or collapse, because
        convergence cannot be tested with fewer than two seeds.
        """
        best = self.best(ladder)
        for point in ladder[max(0, best - 1) : best + 2]:
            records = self._records(point)
            trained = sum(has_trained for _, has_trained, _ in records)
            if not (records[0][2] or trained < 2 <= len(records)):
                return False
        return True

    def _records(self, point: Point) -> list[tuple[float, bool, bool]]:
        return [self.records[run_id] for run_id in self._run_ids(point)]

    def _run_ids(self, point: Point) -> list[str]:
        if point not in self.ids:
            self.ids[point] = [run.run_id for run in self.grid.cell(point)]
        return self.ids[point]


def added_points(grid: Grid, cells: Cells, stated: list[Point]) -> list[Point]:
    """Return the points that extensions add to one group, as far as the results so far require them.

    Every iteration increases either the reach (the number of rungs that are added below and above each ladder) or the
    level (the number of doublings of the budget), up to their limits.

    Args:
        grid: The spec's grid.
        cells: The cells with their results so far.
        stated: The stated points of the group, which differ only in rate and batch size.

    Returns:
        The points. No extension is missing as soon as all their runs have finished.
    """
    axis = ladder_axis(grid)
    ladders: dict[float, list[Point]] = defaultdict(list)
    for point in stated:
        ladders[point.batch_size if axis == "rate" else point.rate].append(point)
    outer = {key: _outer_rungs(grid, axis, ladder) for key, ladder in ladders.items()}
    reach = dict.fromkeys(ladders, (0, 0))
    level = 0
    points: list[Point] = []
    while True:
        current = {key: _at_level(_extended(ladders[key], outer[key], reach[key]), level) for key in ladders}
        new = [point for ladder in current.values() for point in ladder]
        points += new
        if not cells.have_all_runs(new):
            break
        further = {
            key: _reach_around(outer[key], reach[key], len(ladder), cells.best(ladder))
            for key, ladder in current.items()
        }
        if further == reach:
            further = {key: _reach_with_results(cells, outer[key], reach[key], level) for key in current}
        if further != reach:
            reach = further
        elif level < grid.spec.training.max_extensions and not all(map(cells.have_converged, current.values())):
            level += 1
        else:
            break
    in_grid = set(stated)
    return [point for point in dict.fromkeys(points) if point not in in_grid]


def _outer_rungs(grid: Grid, axis: Axis, ladder: list[Point]) -> tuple[list[Point], list[Point]]:
    """Return the rungs that may be added below and above a ladder, nearest first."""
    values = [getattr(point, axis) for point in ladder]
    if not grid.spec.fit.extend_edges or len(values) < MIN_LADDER:
        return [], []
    ends = (values[0], values[0] / values[1]), (values[-1], values[-1] / values[-2])
    below, above = (_next_values(grid, axis, values, end, ratio) for end, ratio in ends)
    return [_at(ladder[0], axis, value) for value in below], [_at(ladder[0], axis, value) for value in above]


def _next_values(grid: Grid, axis: Axis, values: list[float], end: float, ratio: float) -> list[float]:
    """Continue a ladder from one end by its ratio there. Batch sizes are whole numbers on which the grid can train."""
    further = [rung(end * ratio**step) for step in range(1, grid.spec.fit.max_edge_rungs + 1)]
    if axis == "rate":
        return further
    sizes = dict.fromkeys(round(value) for value in further)
    return [size for size in sizes if grid.can_train_on(size) and size not in values]


def _at(point: Point, axis: Axis, value: float) -> Point:
    return replace(point, rate=value) if axis == "rate" else replace(point, batch_size=int(value))


def _extended(ladder: list[Point], outer: tuple[list[Point], list[Point]], reach: tuple[int, int]) -> list[Point]:
    return [*reversed(outer[0][: reach[0]]), *ladder, *outer[1][: reach[1]]]


def _at_level(ladder: list[Point], level: int) -> list[Point]:
    return [replace(point, budget=(point.budget[0], point.budget[1] * 2**level)) for point in ladder]


def _reach_around(
    outer: tuple[list[Point], list[Point]], reach: tuple[int, int], length: int, best: int
) -> tuple[int, int]:
    """Return the reach at which the best cell is two rungs from both ends, limited by the rungs that may be added."""
    margins = best, length - 1 - best
    below, above = (
        min(len(side), rungs + max(0, END_MARGIN - margin))
        for side, rungs, margin in zip(outer, reach, margins, strict=True)
    )
    return below, above


def _reach_with_results(
    cells: Cells, outer: tuple[list[Point], list[Point]], reach: tuple[int, int], level: int
) -> tuple[int, int]:
    """Return the reach that includes every rung with results, because such a rung must get results for all seeds."""
    below, above = (
        max([rungs, *(place + 1 for place, point in enumerate(_at_level(side, level)) if cells.has_results(point))])
        for side, rungs in zip(outer, reach, strict=True)
    )
    return below, above
