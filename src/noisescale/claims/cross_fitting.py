"""Cross-fitting: each seed is reported at the cell that other seeds choose."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisescale.claims.panel import Floats


def chosen_by_others(scores: Floats, by: Literal["pairs", "halves"]) -> NDArray[np.intp]:
    """Return the cell with the highest score for each seed, chosen by seeds other than itself.

    "pairs": the other seed of its pair chooses; seeds (0, 1), (2, 3), … form the pairs. The choices of different pairs
    are independent, so an interval over pairs contains the uncertainty of the choice.

    "halves": the mean over the other half of the seeds chooses. The choice is more accurate, but all seeds of a half
    share it.

    Args:
        scores: Scores by seed and cell, shape [S, C]; larger is better. S is even for pairs.
        by: Which seeds choose.

    Returns:
        Indices of cells, shape [S].
    """
    seeds = len(scores)
    if by == "pairs":
        partners: NDArray[np.intp] = scores.argmax(1)[np.arange(seeds) ^ 1]
        return partners
    half = seeds // 2
    first, second = scores[half:].mean(0).argmax(), scores[:half].mean(0).argmax()
    return np.repeat([first, second], [half, seeds - half])


def at_cells(values: Floats, cells: NDArray[np.intp]) -> Floats:
    """Return each seed's value at its cell.

    Args:
        values: Values by seed and cell, shape [S, C].
        cells: Index of the cell of each seed, shape [S].

    Returns:
        Values, shape [S].
    """
    chosen: Floats = np.take_along_axis(values, cells[:, None], 1)[:, 0]
    return chosen
