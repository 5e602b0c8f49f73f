"""Cross-fitting: other seeds choose the cell at which a seed is reported, so the choice does not bias the value."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisescale.claims.panel import Floats


def chosen_by_others(scores: Floats, by: Literal["pairs", "halves"]) -> NDArray[np.intp]:
    """Return the index of each seed's cell, which has the highest score for other seeds.

    With "pairs", seeds (0, 1), (2, 3), … form pairs, and each seed chooses the cell for the other seed of its pair. The
    choices of different pairs are independent, so an interval over pairs contains the uncertainty of the choice.

    With "halves", the mean over each half of the seeds chooses the cell for the other half. The choice is more
    accurate, but all seeds of a half share it.

    Args:
        scores: Scores by seed and cell, shape [S, C]; larger is better. S is even for pairs.
        by: Who chooses: "pairs" for the other seed of each pair, "halves" for the other half of the seeds.

    Returns:
        Indices of cells, shape [S].
    """
    seeds = len(scores)
    if by == "pairs":
        partners: NDArray[np.intp] = scores.argmax(1)[np.arange(seeds) ^ 1]
        return partners
    size = seeds // 2
    for_first_half, for_second_half = scores[size:].mean(0).argmax(), scores[:size].mean(0).argmax()
    return np.repeat([for_first_half, for_second_half], [size, seeds - size])


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
