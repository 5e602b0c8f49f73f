"""The stability edges of a group of runs: measured edges, their laws over width, and curves over batch size.

The stability edge is the largest learning rate at which training is stable. A stability ladder, a sequence of
increasing rates, measures it at one width and one batch size.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.laws.edge_by_batch import EdgeByBatch
from noisescale.laws.nearest import nearest_by_factor
from noisescale.laws.power_laws import PowerLaw, power_law
from noisescale.laws.results import EdgeAt, EdgeLaw
from noisescale.laws.stability import CONVENTION, stability_edge

Array = NDArray[np.float64]

_CENSORED = {"all_fail": -1, "no_failure": 1}
# Parameterizations with one learning rate for all layers, and the factor of width beyond which an edge law ends.
ONE_RATE, _FAR = ("standard", "own"), 2.0


def measured_edges(stability: pd.DataFrame) -> tuple[EdgeAt, ...]:
    """Estimate the largest stable learning rate for each (width, batch size) that has a stability ladder.

    Args:
        stability: Runs of the stability ladders, one row each, with the column `diverged_or_collapsed`.

    Returns:
        The edges, in order of width and batch size.
    """
    edges = []
    for (width, batch), runs in stability.groupby(["width", "batch_size"], sort=True):
        edge = stability_edge(*_failure_table(runs))
        edges.append(EdgeAt(float(str(width)), float(str(batch)), int(runs["steps"].max()), edge))
    return tuple(edges)


def _failure_table(runs: pd.DataFrame) -> tuple[Array, Array]:
    """Return the learning rates [M] of a ladder and the failures of each seed [S, M], NaN where a run is missing."""
    rates, columns = np.unique(runs["learning_rate"].to_numpy(dtype=np.float64), return_inverse=True)
    seeds, rows = np.unique(runs["seed"].to_numpy(), return_inverse=True)
    # A pandas pivot table takes ten times as long, and a study has tens of ladders.
    table = np.full((len(seeds), len(rates)), math.nan)
    np.fmax.at(table, (rows, columns), runs["diverged_or_collapsed"].to_numpy(dtype=np.float64))
    return rates, table


def edge_laws(edges: tuple[EdgeAt, ...]) -> tuple[EdgeLaw, ...]:
    """Fit the largest stable rate against width, at every batch size measured at two or more widths.

    Args:
        edges: Measured edges of one group.

    Returns:
        The laws, in order of batch size. Edges with too few seeds are left out. An edge below or above its ladder
        enters as an inequality.
    """
    laws = []
    for batch in sorted({edge.batch_size for edge in edges}):
        at_batch = [edge for edge in edges if edge.batch_size == batch and edge.edge.label != "too_few_seeds"]
        if len(at_batch) < 2:
            continue
        laws.append(
            EdgeLaw(
                batch,
                power_law(
                    np.array([edge.width for edge in at_batch]),
                    np.log([edge.edge.rate.value for edge in at_batch]),
                    np.array([edge.edge.standard_error for edge in at_batch]),
                    degrees=np.array([edge.edge.seeds - 1.0 for edge in at_batch]),
                    censored=np.array([_CENSORED.get(edge.edge.label, 0) for edge in at_batch], dtype=np.int64),
                    quantity=f"largest stable rate at B = {batch:g}",
                    unit="learning rate",
                    convention=CONVENTION,
                ),
            )
        )
    return tuple(laws)


def measured_edge_at_width(edges: tuple[EdgeAt, ...], width: float) -> EdgeByBatch | None:
    """Return the edge at a measured width as a function of batch size.

    Args:
        edges: Measured edges of one group.
        width: Measured width.

    Returns:
        The interpolated edge; None if no edge at this width lies inside its ladder.
    """
    at_width = [edge for edge in edges if edge.width == width and edge.edge.label in ("bracketed", "single_cell")]
    if not at_width:
        return None
    return EdgeByBatch(
        tuple(edge.batch_size for edge in at_width),
        tuple(math.log(edge.edge.rate.value) for edge in at_width),
        tuple(_log_end(edge.edge.rate.low) for edge in at_width),
        tuple(_log_end(edge.edge.rate.high) for edge in at_width),
    )


def edge_at_width(edges: tuple[EdgeAt, ...], laws: tuple[EdgeLaw, ...], width: float) -> tuple[EdgeByBatch | None, str]:
    """Return the edge over batch size at any width, measured or not.

    Args:
        edges: Measured edges of one group.
        laws: Laws of these edges over width.
        width: Any width.

    Returns:
        The edge, and a sentence that names its source. The source is the measurement at this width if there is one,
        else the conclusive laws over width, else the nearest measured width. The edge is None if no measured edge lies
        inside its ladder.
    """
    measured = measured_edge_at_width(edges, width)
    if measured is not None:
        return measured, "stability edge measured at this width"
    conclusive: list[PowerLaw] = [law.law for law in laws if law.law.status == "ok"]
    batches = [law.batch_size for law in laws if law.law.status == "ok"]
    if conclusive:
        predicted = [law.at(width) for law in conclusive]
        return (
            EdgeByBatch(
                tuple(batches),
                tuple(math.log(value.value) for value in predicted),
                tuple(_log_end(value.low) for value in predicted),
                tuple(_log_end(value.high) for value in predicted),
            ),
            f"stability edge from its law over widths, at B = {', '.join(f'{batch:g}' for batch in batches)}",
        )
    bracketed = {edge.width for edge in edges if measured_edge_at_width(edges, edge.width) is not None}
    if not bracketed:
        return None, "no stability edge was measured"
    nearest = nearest_by_factor(bracketed, width)
    return measured_edge_at_width(
        edges, nearest
    ), f"stability edge of width {nearest:g}, because its law over widths is inconclusive"


def _log_end(value: float) -> float:
    return math.log(value) if math.isfinite(value) and value > 0 else value


def cautious_edge(
    edge: EdgeByBatch | None, edges: tuple[EdgeAt, ...], width: float, parameterization: str
) -> EdgeByBatch | None:
    """Return an edge for a width far beyond the measured ones, where theory says more than a line over few widths.

    In wide networks with one learning rate for all layers, the largest stable rate falls as 1/width, whatever it did in
    narrow ones. So the edge is at most the one of the widest measured network times the ratio of the widths.

    Args:
        edge: Edge at the width, as measured or from its laws.
        edges: Measured edges of the group.
        width: Width of the network.
        parameterization: Name of the parameterization.

    Returns:
        The edge, lowered if the width is more than twice the widest measured one.

    Source:
        Park et al. 2019, section H (standard parameterization).
    """
    widest = max((measured.width for measured in edges), default=math.inf)
    if edge is None or parameterization not in ONE_RATE or width <= _FAR * widest:
        return edge
    there = measured_edge_at_width(edges, widest)
    if there is None:
        return edge
    batches = np.log(edge.batch_sizes)
    limits = there.log_at(batches) - math.log(width / widest)
    lower = np.minimum(limits - np.array(edge.log_rates), 0.0)
    rates, lows, highs = (np.array(values) + lower for values in (edge.log_rates, edge.log_lows, edge.log_highs))
    return EdgeByBatch(edge.batch_sizes, tuple(rates.tolist()), tuple(lows.tolist()), tuple(highs.tolist()))
