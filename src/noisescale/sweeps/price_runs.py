"""The price of a larger learning rate: a few cells with different rates at equal noise and equal training time.

A larger batch at a larger rate keeps the noise scale g and needs fewer steps for the same ε·steps, but near the
stability edge it costs some of the metric. The cells lie at stated shares of the edge, at the noise and the training
time of the best cell of the largest width. Every call replays the rule and waits for the grid, the stability ladders
and the extensions of that width, so an interrupted sweep plans the same runs as an undisturbed sweep.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.edge_rules import log_edge_between
from noisescale.noise_laws import NOISE_SCALE, NoiseLaw
from noisescale.runs import Run
from noisescale.sweeps.extensions import Cells, added_points, ladder_groups
from noisescale.sweeps.grid import Grid, Point
from noisescale.sweeps.spec_measure import NOT_AVERAGED, NOT_MEASURED
from noisescale.sweeps.stability_ladder import StabilityLadder, ladder_template, stability_ladders
from noisescale.training import OPTIMIZERS, parse_schedule

Array = NDArray[np.float64]

# Shares of the stability edge at which the cells lie. On MNIST-1D the first costs nothing, and the last costs 2 points
# of accuracy (ten seeds). Above two thirds of the edge it cost 8 to 16 points, so no recommendation goes there.
SHARES = (0.2, 0.35, 0.5)

# Largest ratio of a cell's share to the share that it stands for. Neighbouring shares are a factor of 1.43 apart.
NEAR = 1.2

# A batch size may lie this factor outside the batch sizes at which the edge was measured.
BEYOND = 2

# With fewer seeds of the stability ladder, the edge has no interval and no share of it is reported.
MIN_LADDER_SEEDS = 6

# Largest number of seeds, and distance from the sweep's first seed to the first of them.
MOST_SEEDS, FIRST_SEED = 5, 2_000_000


@dataclass(frozen=True, slots=True)
class PricePlan:
    """The cells that measure the price at one setting of the hyperparameters.

    Args:
        state: "planned", "pending" (results are missing on which the cells depend), "unreachable" (the results allow no
            two cells) or "inapplicable" (the setting has no such price).
        reason: The reason why there are no cells; empty if they are planned.
        runs: All runs of the cells, including finished runs.
    """

    state: Literal["planned", "pending", "unreachable", "inapplicable"]
    reason: str = ""
    runs: tuple[Run, ...] = ()


def price_runs(grid: Grid, results: pd.DataFrame) -> list[Run]:
    """List the runs that measure the price of a larger rate, as far as the results so far determine them.

    Args:
        grid: The spec's grid.
        results: `Study.finished()`, or an empty frame.

    Returns:
        All these runs, including finished runs.
    """
    return [run for plan in _price_plans(grid, results) for run in plan.runs]


def price_notes(grid: Grid, results: pd.DataFrame, *, every: bool = False) -> list[str]:
    """Explain why a spec that asks for the price gets no cells.

    Args:
        grid: The spec's grid.
        results: `Study.finished()`, or an empty frame.
        every: True also explains why the spec has no such price, or why its cells are not planned yet. By default only
            results that allow no cells are explained.

    Returns:
        At most one note.
    """
    explained = ("unreachable", "pending", "inapplicable") if every else ("unreachable",)
    reasons = [plan.reason for plan in _price_plans(grid, results) if plan.state in explained]
    return [f"price of a larger learning rate: {'; '.join(dict.fromkeys(reasons))}"] if reasons else []


def _price_plans(grid: Grid, results: pd.DataFrame) -> Iterator[PricePlan]:
    """Yield one plan for each setting of the hyperparameters, at the largest width."""
    if not grid.spec.stability.price:
        return
    if reason := _spec_reason(grid):
        yield PricePlan("inapplicable", f"not measured, because {reason}")
        return
    widest = max(grid.spec.grid.width)
    cells = Cells(grid, results)
    ladders: dict[Run, list[StabilityLadder]] = defaultdict(list)
    for ladder in stability_ladders(grid, results):
        ladders[ladder.template].append(ladder)
    for group in ladder_groups(grid):
        if group[0].width == widest:
            yield _plan(
                grid, cells, ladders[ladder_template(grid.cell(group[0])[0], grid.spec.stability.schedule)], group
            )


def _spec_reason(grid: Grid) -> str:
    if grid.spec.stability.seeds < MIN_LADDER_SEEDS:
        return f"it needs stability.seeds of at least {MIN_LADDER_SEEDS}, got {grid.spec.stability.seeds}"
    return "it needs at least two seeds, got one" if len(grid.spec.seeds) < 2 else ""


def _plan(grid: Grid, cells: Cells, ladders: list[StabilityLadder], group: list[Point]) -> PricePlan:
    name, width = group[0].optimizer, group[0].width
    law = OPTIMIZERS[name].noise
    if law is None or NOISE_SCALE.name not in law:
        return PricePlan("inapplicable", f"not measured, because {name} has no noise scale to hold equal")
    if parse_schedule(group[0].schedule).of == "batch_size":
        return PricePlan("inapplicable", "not measured, because the schedule changes the batch size")
    points = group + added_points(grid, cells, group)
    if not (cells.have_all_runs(points) and all(ladder.is_finished() for ladder in ladders)):
        seeds = min(len(grid.spec.seeds), MOST_SEEDS)
        size = f"up to {len(SHARES)} cells of {seeds} seeds at width {width}"
        return PricePlan("pending", f"{size} follow when the runs of that width have finished")
    longest = max(point.budget for point in points)
    candidates = [point for point in points if point.budget == longest]
    best = candidates[cells.best(candidates)]
    edges = {ladder.base.batch_size: ladder.edge() for ladder in ladders}
    edges = {batch: edge for batch, edge in sorted(edges.items()) if math.isfinite(edge)}
    if not edges:
        return PricePlan("unreachable", f"not measured, because no stability edge was found at width {width}")
    if not cells.has_trained(best):
        return PricePlan("unreachable", f"not measured, because every run at width {width} failed")
    return _plan_at(grid, best, law, edges)


def _plan_at(grid: Grid, best: Point, law: NoiseLaw, edges: dict[int, float]) -> PricePlan:
    """Plan the cells at the noise and the training time of the best cell.

    Args:
        grid: The spec's grid.
        best: The best cell.
        law: The noise law of its optimizer.
        edges: Stability edge by batch size, in increasing order of the batch size.
    """
    run = grid.cell(best)[0]
    setting = run.train_size, run.momentum
    replacement = run.sampling == "with_replacement"
    noise = run.learning_rate * law.per_rate(NOISE_SCALE.name, run.batch_size, *setting, replacement=replacement)
    if not noise > 0:
        return PricePlan("unreachable", "not measured, because the best cell has no gradient noise")
    largest = min(max(edges) * BEYOND, run.train_size // 2)
    sizes = np.arange(max(1, -(-min(edges) // BEYOND)), largest + 1)
    rates = noise / law.per_rate(NOISE_SCALE.name, sizes.astype(np.float64), *setting, replacement=replacement)
    log_edges = log_edge_between(np.log(sizes), np.log(list(edges)), np.log(list(edges.values())))
    batches = _batches_at_shares(grid, sizes, np.log(rates) - log_edges)
    if len(batches) < 2:
        shares = ", ".join(f"{share:g}" for share in SHARES)
        return PricePlan(
            "unreachable",
            f"not measured, because at the noise of the best cell of width {run.width}, fewer than two of the shares "
            f"{shares} of the stability edge can be reached with {sizes[0] if sizes.size else 1} to {largest} examples",
        )
    start = min(grid.spec.seeds) + FIRST_SEED
    runs = []
    for batch in batches:
        rate = law.rate(NOISE_SCALE.name, noise, batch, *setting, replacement=replacement)
        steps = max(1, round(run.learning_rate * run.steps / rate))
        if best.budget[0] == "epochs":
            steps = grid.cell(replace(best, batch_size=batch))[0].steps
        cell = replace(
            run, learning_rate=rate, batch_size=batch, steps=steps, purpose="price", **NOT_AVERAGED, **NOT_MEASURED
        )
        runs += [replace(cell, seed=start + index) for index in range(min(len(grid.spec.seeds), MOST_SEEDS))]
    return PricePlan("planned", runs=tuple(runs))


def _batches_at_shares(grid: Grid, sizes: NDArray[np.int64], log_shares: Array) -> list[int]:
    """Return the batch size nearest to each share that some batch size reaches, in increasing order."""
    batches = set()
    for share in SHARES:
        distances = np.abs(log_shares - math.log(share))
        near = [int(place) for place in np.argsort(distances, kind="stable") if distances[place] <= math.log(NEAR)]
        batches.update([size for size in map(int, sizes[near]) if grid.can_train_on(size)][:1])
    return sorted(batches)
