"""Learning rates chosen in pairs of seeds: each seed uses the rate that is best for the other seed of its pair."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from noisescale.claims.cross_fitting import at_cells, chosen_by_others
from noisescale.claims.evidence import NotRun
from noisescale.claims.panel import Floats
from noisescale.claims.sweep_runs import by_seed


@dataclass(frozen=True)
class ChosenRuns:
    """The runs of one batch size, each at the rate that the other seed of its pair chooses.

    Two rates can be equally good in the metric that chooses and differ in the metric that is reported. The choice then
    decides the result. Pairs choose independently of each other, so an interval over pairs contains the uncertainty of
    the choice. If one half of the seeds chose a single rate for the other half, the spread over seeds would not contain
    this uncertainty.

    Args:
        accuracy: Test accuracy at the rate best for test accuracy, shape [S].
        loss: Training loss of the same runs, shape [S], in nats.
        accuracy_by_loss: Test accuracy at the rate best for the training loss, shape [S].
        loss_by_loss: Training loss at the rate best for the training loss, shape [S], in nats.
        at_end: Whether the rate with the best mean test accuracy is an end of the ladder. A better rate may then lie
            beyond the ladder.
        at_end_by_loss: Whether the rate with the best mean training loss is an end of the ladder.
    """

    accuracy: Floats
    loss: Floats
    accuracy_by_loss: Floats
    loss_by_loss: Floats
    at_end: bool
    at_end_by_loss: bool


def choose_in_pairs(runs: pd.DataFrame, columns: str | list[str] = "learning_rate") -> ChosenRuns:
    """Choose the rate of each seed by the other seed of its pair.

    Args:
        runs: The runs of one batch size.
        columns: The columns whose values are chosen.
    """
    accuracy, loss = (by_seed(runs, columns, name).to_numpy(dtype=np.float64) for name in ("accuracy", "train_loss"))
    # A run that diverged has no training loss. Its loss counts as infinite, so that its rate is not chosen.
    loss = np.where(np.isfinite(loss), loss, math.inf)
    by_accuracy, by_loss = chosen_by_others(accuracy, "pairs"), chosen_by_others(-loss, "pairs")
    return ChosenRuns(
        at_cells(accuracy, by_accuracy), at_cells(loss, by_accuracy), at_cells(accuracy, by_loss),
        at_cells(loss, by_loss), _is_end(accuracy), _is_end(-loss),
    )  # fmt: skip


def choose_within_ladders(runs: pd.DataFrame) -> dict[int, ChosenRuns]:
    """Choose the rates of each batch size, and keep the batch sizes whose best rate lies within the ladder.

    Args:
        runs: The runs of all batch sizes.

    Raises:
        NotRun: There are two or more batch sizes, and fewer than two of them remain.
    """
    chosen = {int(str(batch)): choose_in_pairs(part) for batch, part in runs.groupby("batch_size")}
    within_ladders = {batch: runs_at_batch for batch, runs_at_batch in chosen.items() if not runs_at_batch.at_end}
    if len(within_ladders) < min(2, len(chosen)):
        raise NotRun("the best rates lie at the ends of their ladders: widen the ladders")
    return within_ladders


def _is_end(scores: Floats) -> bool:
    """Return whether the column with the largest mean over seeds is the first or the last column."""
    return int(scores.mean(0).argmax()) in (0, scores.shape[1] - 1)
