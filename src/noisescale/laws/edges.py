"""The stability edges of a group of runs: per width and batch, over width, and over batch at one width."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.laws.largest_batch import EdgeByBatch
from noisescale.laws.power_laws import PowerLaw, power_law
from noisescale.laws.results import EdgeAt, EdgeLaw
from noisescale.laws.stability import CONVENTION, stability_edge

Array = NDArray[np.float64]

_CENSORED = {"all_fail": -1, "no_failure": 1}


def measured_edges(stability: pd.DataFrame) -> tuple[EdgeAt, ...]:
    """The largest stable rate of every width and batch that has a stability ladder.

    Args:
        stability: the runs of the ladder, one row each, with the column `failed_run`.

    Returns:
        The edges, in order of width and batch.
    """
    found = []
    for (width, batch), part in stability.groupby(["width", "batch_size"], sort=True):
        edge = stability_edge(*_failures(part))
        found.append(EdgeAt(float(str(width)), float(str(batch)), int(part["steps"].max()), edge))
    return tuple(found)


def _failures(part: pd.DataFrame) -> tuple[Array, Array]:
    """The rates of one width and batch [M], and whether each seed failed there [S, M]; NaN where it was not run.

    By hand: a pivot table of pandas takes ten times as long, and a study has tens of ladders.
    """
    rates, columns = np.unique(part["learning_rate"].to_numpy(dtype=np.float64), return_inverse=True)
    seeds, rows = np.unique(part["seed"].to_numpy(), return_inverse=True)
    table = np.full((len(seeds), len(rates)), math.nan)
    np.fmax.at(table, (rows, columns), part["failed_run"].to_numpy(dtype=np.float64))
    return rates, table


def edge_laws(edges: tuple[EdgeAt, ...]) -> tuple[EdgeLaw, ...]:
    """The law of the largest stable rate against width, at every batch that at least two widths have.

    Args:
        edges: of one group.

    Returns:
        The laws, in order of batch; edges with too few seeds are left out, open ones enter as inequalities.
    """
    laws = []
    for batch in sorted({edge.batch_size for edge in edges}):
        own = [edge for edge in edges if edge.batch_size == batch and edge.edge.label != "too_few_seeds"]
        if len(own) < 2:
            continue
        laws.append(
            EdgeLaw(
                batch,
                power_law(
                    np.array([edge.width for edge in own]),
                    np.log([edge.edge.rate.value for edge in own]),
                    np.array([edge.edge.standard_error for edge in own]),
                    degrees=np.array([edge.edge.seeds - 1.0 for edge in own]),
                    censored=np.array([_CENSORED.get(edge.edge.label, 0) for edge in own], dtype=np.int64),
                    quantity=f"largest stable rate at B = {batch:g}",
                    unit="learning rate",
                    convention=CONVENTION,
                ),
            )
        )
    return tuple(laws)


def edge_over_batch(edges: tuple[EdgeAt, ...], width: float) -> EdgeByBatch | None:
    """The edge of one measured width as a function of batch.

    Args:
        edges: of one group.
        width: a width that was measured.

    Returns:
        The interpolated edge; None where no edge of this width is bracketed.
    """
    own = [edge for edge in edges if edge.width == width and edge.edge.label in ("bracketed", "single_cell")]
    if not own:
        return None
    return EdgeByBatch(
        tuple(edge.batch_size for edge in own),
        tuple(math.log(edge.edge.rate.value) for edge in own),
        tuple(_log_end(edge.edge.rate.low) for edge in own),
        tuple(_log_end(edge.edge.rate.high) for edge in own),
    )


def edge_at_new_width(
    edges: tuple[EdgeAt, ...], laws: tuple[EdgeLaw, ...], width: float
) -> tuple[EdgeByBatch | None, str]:
    """The edge over batch at a width that need not have been measured.

    Args:
        edges: of one group.
        laws: of the same group.
        width: any width.

    Returns:
        The edge, from the law over widths at each batch where that law is conclusive and else from the nearest width,
        and one sentence that says which; None without any bracketed edge.
    """
    own = edge_over_batch(edges, width)
    if own is not None:
        return own, "stability edge measured at this width"
    usable: list[PowerLaw] = [law.law for law in laws if law.law.status == "ok"]
    batches = [law.batch_size for law in laws if law.law.status == "ok"]
    if usable:
        predicted = [law.at(width) for law in usable]
        return (
            EdgeByBatch(
                tuple(batches),
                tuple(math.log(value.value) for value in predicted),
                tuple(_log_end(value.low) for value in predicted),
                tuple(_log_end(value.high) for value in predicted),
            ),
            f"stability edge from its own law over widths, at B = {', '.join(f'{batch:g}' for batch in batches)}",
        )
    known = {edge.width for edge in edges if edge_over_batch(edges, edge.width) is not None}
    if not known:
        return None, "no stability edge was measured"
    nearest = min(known, key=lambda value: abs(math.log(value / width)))
    return edge_over_batch(edges, nearest), f"stability edge of width {nearest:g}: its law over widths is inconclusive"


def _log_end(value: float) -> float:
    return math.log(value) if math.isfinite(value) and value > 0 else value
