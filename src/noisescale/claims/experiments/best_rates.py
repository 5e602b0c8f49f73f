"""Each seed's best effective learning rate on every ladder, and the metric there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.claims.cross_fitting import at_cells, chosen_by_others
from noisescale.claims.evidence import NotRun
from noisescale.claims.panel import Floats
from noisescale.claims.sweep_runs import by_seed
from noisescale.laws import MINIMUM_CELLS, local_cubic


@dataclass(frozen=True)
class BestRates:
    """The best effective rates ε/(1 − m) on C ladders.

    Args:
        keys: Position of each ladder on its axis, shape [C].
        log_rates: Logarithm of each seed's best effective rate, shape [S, C].
        heights: Metric at the best rate, shape [S, C]. The rate for each half of the seeds is chosen by the other half.
            A loss has its sign reversed.
        censored: Whether the best rate is an end of the ladder without failures beyond it, shape [C].
    """

    keys: Floats
    log_rates: Floats
    heights: Floats
    censored: NDArray[np.bool_]

    def at(self, cells: NDArray[np.bool_]) -> BestRates:
        """Return some of the ladders.

        Args:
            cells: Whether to keep each ladder, shape [C].
        """
        return BestRates(self.keys[cells], self.log_rates[:, cells], self.heights[:, cells], self.censored[cells])


def best_rates(runs: pd.DataFrame, axis: str, metric: str = "accuracy") -> BestRates:
    """Find the best rates on every ladder.

    Args:
        runs: The table of runs, as `SweepRuns.table` returns it.
        axis: The column that separates the ladders.
        metric: "accuracy", which is maximized, or a loss, which is minimized.

    Raises:
        NotRun: A ladder has too few rates at which every seed trains.
    """
    effective = np.log(runs.learning_rate / (1 - runs.momentum)).round(6)
    sign = 1.0 if metric == "accuracy" else -1.0
    keys, log_rates, heights, censored = [], [], [], []
    for key, ladder in runs.assign(rate=effective).groupby(axis):
        values = by_seed(ladder, "rate", metric)
        # Where training fails the curve falls off a cliff that no cubic can follow: only the cells before it count.
        sound = ~np.logical_or.accumulate(ladder.groupby("rate").diverged_or_collapsed.any().to_numpy())
        if sound.sum() < MINIMUM_CELLS:
            raise NotRun(f"fewer than {MINIMUM_CELLS} rates at which all seeds train, at {axis} {key}")
        x = values.columns.to_numpy(dtype=np.float64)[sound]
        scores = sign * values.to_numpy(dtype=np.float64)[:, sound]
        best = _tops(x, scores)
        middle = float(np.median(best))
        keys.append(float(str(key)))
        log_rates.append(best)
        heights.append(at_cells(scores, chosen_by_others(scores, "halves")))
        censored.append(middle == x[0] or (bool(sound.all()) and middle == x[-1]))
    return BestRates(np.array(keys), np.stack(log_rates, 1), np.stack(heights, 1), np.array(censored))


def where_all_have_a_peak(*rates: BestRates) -> list[BestRates]:
    """Return only the ladders whose best rate lies inside the ladder for every item of `rates`.

    Args:
        *rates: Best rates on the same ladders.
    """
    censored = reduce(np.logical_or, [item.censored for item in rates])
    return [item.at(~censored) for item in rates]


def break_of_proportionality(log_x: Floats, log_y: Floats) -> int:
    """Return the index at which the best-fitting curve changes from slope 1 to flat; the last index if it never does.

    Args:
        log_x: Positions, shape [M].
        log_y: Values, shape [M].

    Raises:
        NotRun: There are fewer than three positions.
    """

    def misfit(place: int) -> float:
        return float(np.var(log_y - np.minimum(log_x, log_x[place])))

    if len(log_x) < 3:
        raise NotRun("fewer than three batches have their best rate within the ladder")
    return min(range(1, len(log_x)), key=misfit)


def training_times(runs: pd.DataFrame, rates: BestRates, label: str = "") -> dict[str, float]:
    """Report the training time ε·steps/(1 − m) at the best rate for each batch size.

    Where it is equal, only the noise differs.

    Args:
        runs: The table of runs.
        rates: The best rates over batch sizes.
        label: Text to add to each name.
    """
    steps = runs.groupby("batch_size").steps.first()
    means = rates.log_rates.mean(0)
    return {
        f"ε·steps/(1 − m) at the best rate, B = {batch:g}{label}": float(np.exp(log_rate)) * float(steps[batch])
        for batch, log_rate in zip(rates.keys, means, strict=True)
    }


def _tops(x: Floats, scores: Floats) -> Floats:
    """Top [S] of each seed's smoothed curve, scores [S, C]; an end of the ladder is possible.

    The top of the mean curve is not used, because its jackknife interval is too short (a planted null was supported in
    7 of 40 draws). The claims compare cells, so a bias that all cells share has no effect.
    """
    maps = local_cubic(x)
    tops: Floats = maps.grid[(scores @ maps.height.T).argmax(1)]
    return tops
