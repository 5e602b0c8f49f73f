"""The best effective learning rate of each seed on every ladder of rates, and the metric at this rate."""

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
        keys: Value that distinguishes each ladder, such as its batch size, shape [C].
        log_rates: Logarithm of each seed's best effective rate, shape [S, C].
        heights: Metric at the best rate, shape [S, C]. Each half of the seeds chooses the rate for the other half. The
            sign of a loss is reversed.
        censored: Whether the median best rate of the seeds is the lowest rate of its ladder, or the highest rate of a
            ladder on which no run fails, shape [C].
    """

    keys: Floats
    log_rates: Floats
    heights: Floats
    censored: NDArray[np.bool_]

    def at(self, selected: NDArray[np.bool_]) -> BestRates:
        """Return only the selected ladders.

        Args:
            selected: Whether to keep each ladder, shape [C].
        """
        return BestRates(
            self.keys[selected], self.log_rates[:, selected], self.heights[:, selected], self.censored[selected]
        )


def best_rates(runs: pd.DataFrame, axis: str, metric: str = "accuracy") -> BestRates:
    """Find the best rates on every ladder.

    Args:
        runs: The table of runs, as `SweepRuns.table` returns it.
        axis: The column of `runs` that distinguishes the ladders, such as "batch_size".
        metric: "accuracy", which is maximized, or a loss, which is minimized.

    Raises:
        NotRun: A ladder has too few rates at which all seeds train without failure.
    """
    effective = np.log(runs.learning_rate / (1 - runs.momentum)).round(6)
    sign = 1.0 if metric == "accuracy" else -1.0
    keys, log_rates, heights, censored = [], [], [], []
    for key, ladder in runs.assign(rate=effective).groupby(axis):
        values = by_seed(ladder, "rate", metric)
        # The metric jumps at the first rate at which training fails, and no cubic fits this jump. Only lower rates are
        # used.
        all_train = ~np.logical_or.accumulate(ladder.groupby("rate").diverged_or_collapsed.any().to_numpy())
        if all_train.sum() < MINIMUM_CELLS:
            raise NotRun(f"fewer than {MINIMUM_CELLS} rates at which all seeds train, at {axis} {key}")
        x = values.columns.to_numpy(dtype=np.float64)[all_train]
        scores = sign * values.to_numpy(dtype=np.float64)[:, all_train]
        best = _positions_of_maxima(x, scores)
        median = float(np.median(best))
        keys.append(float(str(key)))
        log_rates.append(best)
        heights.append(at_cells(scores, chosen_by_others(scores, "halves")))
        censored.append(median == x[0] or (bool(all_train.all()) and median == x[-1]))
    return BestRates(np.array(keys), np.stack(log_rates, 1), np.stack(heights, 1), np.array(censored))


def where_all_have_a_peak(*rates: BestRates) -> list[BestRates]:
    """Return only the ladders whose best rate lies inside the ladder for every item of `rates`.

    Args:
        *rates: Best rates on the same ladders.
    """
    censored = reduce(np.logical_or, [item.censored for item in rates])
    return [item.at(~censored) for item in rates]


def break_of_proportionality(log_x: Floats, log_y: Floats) -> int:
    """Return the index at which the best-fitting curve changes from slope 1 to slope 0; the last index if it does not.

    Args:
        log_x: Positions, shape [M].
        log_y: Values, shape [M].

    Raises:
        NotRun: There are fewer than three positions.
    """

    def misfit(index: int) -> float:
        return float(np.var(log_y - np.minimum(log_x, log_x[index])))

    if len(log_x) < 3:
        raise NotRun("fewer than three batches have their best rate within the ladder")
    return min(range(1, len(log_x)), key=misfit)


def training_times(runs: pd.DataFrame, rates: BestRates, label: str = "") -> dict[str, float]:
    """Report the training time ε·steps/(1 − m) at the best rate for each batch size.

    Batch sizes with equal training times differ only in their noise.

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


def _positions_of_maxima(x: Floats, scores: Floats) -> Floats:
    """Return the position [S] of the maximum of each seed's smoothed curve, from scores [S, C].

    The position can be an end of the ladder. We do not use the maximum of the mean curve, because its jackknife
    interval is too short: it supported a false claim in 7 of 40 simulated studies. Claims compare ladders, so a bias
    that all ladders share has no effect.
    """
    maps = local_cubic(x)
    positions: Floats = maps.grid[(scores @ maps.height.T).argmax(1)]
    return positions
