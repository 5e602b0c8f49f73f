"""Whether noise helps where every batch size gets as many steps as any other, or more."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

from noisescale.claims.claim import Curve, Evidence, NotRun, Panel, Request
from noisescale.claims.criterion import Criterion, Statistic, above, below, other_than, over_pairs
from noisescale.claims.ladders import Floats, share_of_late, slopes, table
from noisescale.claims.planted import World
from noisescale.claims.studies import (
    Build,
    equal_steps,
    equal_steps_with_ghost_batches,
    ghost_batches,
    more_steps,
    obtain,
    whole_batches,
)
from noisescale.laws.equivalence import MARGIN

# Batches through which a trend goes: of three the middle one has no weight.
_FEWEST = 4
_BY_ACCURACY, _BY_LOSS = "at the rate best for test accuracy", "at the rate best for the training loss"
_NETWORK = "MLP, one hidden layer of width 64, MNIST-1D with a fifth of the labels redrawn, halving schedule"


def with_ghost_batches(request: Request) -> Evidence:
    """C3.3: at equal steps test accuracy falls with the batch while the training loss falls too."""
    return _falls(request, equal_steps_with_ghost_batches, 1.5, f"{_NETWORK}, batch norm over 16 examples, 4,000 steps")


def without_batch_norm(request: Request) -> Evidence:
    """C3.8: the effect exists without batch norm too."""
    return _falls(request, equal_steps, 24.0, f"{_NETWORK}, NTK, no batch norm, 6,000 steps")


def gap_stays(request: Request) -> Evidence:
    """C3.4: the gap stays when large batches get many times the steps."""
    world = _world(request, 24.0)
    studies = (obtain(request, equal_steps, world), obtain(request, more_steps, _world(request, 1.5)))
    short, long = map(table, studies)
    largest = long.batch_size.iloc[0]
    # A rate of either budget, chosen at once: two choices one after the other make intervals too short.
    either = pd.concat([short[short.batch_size == largest], long])
    found, more = _best(short), _best(long)
    smallest = min(found)
    gap = found[smallest].accuracy - _Chosen(either, ["steps", "learning_rate"]).accuracy
    panel = Panel(
        "batch size, examples", "test accuracy at the best rate",
        (_curve("equal steps", found), _curve("four times the steps", more)), log_x=True,
    )  # fmt: skip
    return Evidence(
        (over_pairs("smallest batch at equal steps − largest batch at its better budget", gap, "fraction",
                    "accuracy, each at its best rate", above(0)),),
        (panel,), len(short) + len(long),
        f"{_NETWORK}, NTK, no batch norm; B = {smallest:g} with 6,000 steps, B = {largest:g} with 6,000 and 24,000",
        share_of_late(*studies[0], *studies[1]) | _failures(short, "equal steps, ")
        | _failures(long, "four times the steps, "),
    )  # fmt: skip


def ghosts_matter(request: Request) -> Evidence:
    """C3.7: with whole-batch statistics instead of ghost batches the trend in B is confounded."""
    # Taken out: the same noise is best with both.
    other = World() if request.null else World(rate_effect=-0.01)
    studies = (obtain(request, ghost_batches), obtain(request, whole_batches, other))
    tables = [table(own) for own in studies]
    ghosts, whole = map(_best, tables)
    batches = sorted(ghosts.keys() & whole.keys())
    if len(batches) < _FEWEST:
        raise NotRun(f"fewer than {_FEWEST} batches whose best rates lie within both ladders")
    ghosts, whole = ({batch: own[batch] for batch in batches} for own in (ghosts, whole))
    gain = _metric(whole, "accuracy") - _metric(ghosts, "accuracy")
    x = np.array(batches, dtype=np.float64)
    panel = Panel(
        "batch size, examples", "test accuracy at the best rate",
        (_curve("ghost batches of 16", ghosts), _curve("whole batches", whole)), log_x=True,
    )  # fmt: skip
    return Evidence(
        (over_pairs("difference of the trends", slopes(np.log2(x), gain), "fraction",
                    "accuracy for each doubling of B, whole − ghost", other_than(0)),),
        (panel,), sum(map(len, tables)), f"{_NETWORK}, batch norm, 2,000 steps",
        share_of_late(*studies[0], *studies[1]) | _failures(tables[0], "ghost batches, ")
        | _failures(tables[1], "whole batches, "),
        _steps("accuracy, whole − ghost", batches, gain, "fraction", "each at its best rate", other_than(0)),
    )  # fmt: skip


class _Chosen:
    """Metrics [S] of one batch, each seed's at the rate that the other seed of its pair finds best; S is even.

    Where two rates are equally good for what chooses and differ in what is reported, the choice decides the answer. Two
    halves of the seeds would each choose one rate for all of the other, and the spread over seeds would not show how
    the choice could have gone. Pairs choose independently of each other: intervals are over pairs.

    `accuracy` and `loss` are at the rate best for test accuracy, the same runs; `accuracy_by_loss` and `loss_by_loss`
    at the rate best for the training loss. `at_end` and `at_end_by_loss` say whether such a rate is an end of its
    ladder, so that a better one may lie beyond: that which is best in the mean over seeds.
    """

    def __init__(self, runs: pd.DataFrame, settings: list[str] | None = None) -> None:
        accuracy, losses = (
            runs.pivot(index="seed", columns=settings or ["learning_rate"], values=name)
            .sort_index()
            .to_numpy(dtype=np.float64)
            for name in ("accuracy", "train_loss")
        )
        # A run that diverged has no training loss; no rate at which one did is best for it.
        losses = np.where(np.isfinite(losses), losses, math.inf)
        self.accuracy, self.loss = _cross_fitted(accuracy, (accuracy, losses))
        self.accuracy_by_loss, self.loss_by_loss = _cross_fitted(-losses, (accuracy, losses))
        self.at_end, self.at_end_by_loss = _ends(accuracy), _ends(-losses)


def _cross_fitted(chooses: Floats, metrics: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Two metrics [S, C] as [S], each seed in the column that is largest for the other seed of its pair."""
    best = chooses.argmax(1)[np.arange(len(chooses)) ^ 1]
    first, second = (np.take_along_axis(metric, best[:, None], 1)[:, 0] for metric in metrics)
    return first, second


def _ends(chooses: Floats) -> bool:
    """Whether the column that is largest in the mean over seeds is the first or the last."""
    return int(chooses.mean(0).argmax()) in (0, chooses.shape[1] - 1)


def _best(runs: pd.DataFrame) -> dict[int, _Chosen]:
    """Of each batch whose best rate lies within its ladder.

    Raises:
        NotRun: there are fewer than two such batches.
    """
    found = {int(str(batch)): _Chosen(part) for batch, part in runs.groupby("batch_size")}
    inside = {batch: own for batch, own in found.items() if not own.at_end}
    if len(inside) < min(2, len(found)):
        raise NotRun("the best rates lie at the ends of their ladders: widen them")
    return inside


def _falls(request: Request, build: Build, edge: float, setting: str) -> Evidence:
    studies = obtain(request, build, _world(request, edge))
    runs = table(studies)
    found = _best(runs)
    batches = sorted(found)
    if len(batches) < _FEWEST:
        raise NotRun(f"fewer than {_FEWEST} batches whose best rate lies within its ladder")
    x = np.array(batches, dtype=np.float64)
    panels = (
        Panel("batch size, examples", "test accuracy",
              (_curve(_BY_ACCURACY, found), _curve(_BY_LOSS, found, "accuracy_by_loss")), log_x=True),
        Panel("batch size, examples", "training loss, nats",
              (_curve(_BY_ACCURACY, found, "loss"), _curve(_BY_LOSS, found, "loss_by_loss")), log_x=True),
    )  # fmt: skip

    def trend(what: str, name: str, unit: str, rate: str) -> Statistic:
        return over_pairs(f"{what} {rate}, for each doubling of B", slopes(np.log2(x), _metric(found, name)), unit,
                          "least squares on log₂ B", below(0))  # fmt: skip

    return Evidence(
        (
            trend("test accuracy", "accuracy", "fraction", _BY_ACCURACY),
            trend("training loss", "loss", "nats", _BY_ACCURACY),
        ),
        panels, len(runs), setting,
        share_of_late(*studies) | _failures(runs) | {
            "batches whose rate best for the training loss is an end of its ladder":
            float(sum(own.at_end_by_loss for own in found.values()))
        },
        (
            trend("test accuracy", "accuracy_by_loss", "fraction", _BY_LOSS),
            trend("training loss", "loss_by_loss", "nats", _BY_LOSS),
            *_steps("test accuracy", batches, _metric(found, "accuracy"), "fraction", _BY_ACCURACY, below(MARGIN)),
            *_steps("training loss", batches, _metric(found, "loss"), "nats", _BY_ACCURACY, below(0)),
        ),
    )  # fmt: skip


def _steps(
    what: str, batches: list[int], values: Floats, unit: str, convention: str, criterion: Criterion
) -> tuple[Statistic, ...]:
    """The change of values [S, M] to each next larger batch: a line through all has little weight for the middle."""
    return tuple(
        over_pairs(f"{what}, B = {larger} less B = {smaller}", values[:, at + 1] - values[:, at], unit, convention,
                   criterion)
        for at, (smaller, larger) in enumerate(itertools.pairwise(batches))
    )  # fmt: skip


def _failures(runs: pd.DataFrame, of: str = "") -> dict[str, float]:
    """The number of runs that diverged or collapsed, of every cell in which any did, and of all."""
    cells = runs[runs.failed].groupby(["batch_size", "learning_rate"]).size().reset_index(name="count")
    found = {
        f"{of}failed runs at B = {row.batch_size:g}, ε = {row.learning_rate:g}": float(row["count"])
        for _, row in cells.iterrows()
    }
    return {f"{of}failed runs of {len(runs)}": float(runs.failed.sum())} | found


def _world(request: Request, edge: float) -> World:
    """Large batches cannot reach the best noise before the edge.

    Taken out: the rate alone decides, one that lies within every ladder, and none fails.
    """
    if request.null:
        return World(by="rate", best=math.log(250), edge=1e6)
    return World(edge=edge, loss_below=6.0)


def _metric(found: dict[int, _Chosen], name: str) -> Floats:
    """[S, M], batches in their order."""
    return np.stack([getattr(found[batch], name) for batch in sorted(found)], 1)


def _curve(label: str, found: dict[int, _Chosen], name: str = "accuracy") -> Curve:
    batches, values = np.array(sorted(found), dtype=np.float64), _metric(found, name)
    pairs = values.reshape(-1, 2, len(batches)).mean(1)
    mean, half = pairs.mean(0), 2 * pairs.std(0, ddof=1) / math.sqrt(len(pairs))
    return Curve(f"{label}, ± 2 standard errors", batches, mean, mean - half, mean + half)
