"""Whether noise helps where every batch size gets as many steps as any other, or more."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from noisescale.claims.claim import Curve, Evidence, NotRun, Panel, Request
from noisescale.claims.criterion import Statistic, above, below, other_than, over_seeds
from noisescale.claims.ladders import Floats, slopes, table
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
    short = table(obtain(request, equal_steps, world))
    long = table(obtain(request, more_steps, _world(request, 1.5)))
    largest = long.batch_size.iloc[0]
    # A rate of either budget, chosen at once: two choices one after the other make intervals too short.
    either = pd.concat([short[short.batch_size == largest], long])
    found, more = _best(short), _best(long)
    smallest = min(found)
    gap = found[smallest].accuracy - _Chosen(either, ["steps", "learning_rate"]).accuracy
    panel = Panel(
        "batch size, examples", "test accuracy at the best rate",
        (_curve("equal steps", found, np.array(sorted(found), dtype=np.float64)),
         _curve("four times the steps", more, np.array([float(largest)]))),
        log_x=True,
    )  # fmt: skip
    return Evidence(
        (over_seeds("smallest batch at equal steps − largest batch at its better budget", gap, "fraction",
                    "accuracy, each at its best rate", above(0)),),
        (panel,), len(short) + len(long),
        f"{_NETWORK}, NTK, no batch norm; B = {smallest:g} with 6,000 steps, B = {largest:g} with 6,000 and 24,000",
    )  # fmt: skip


def ghosts_matter(request: Request) -> Evidence:
    """C3.7: with whole-batch statistics instead of ghost batches the trend in B is confounded."""
    # Taken out: the same noise is best with both.
    other = World() if request.null else World(rate_effect=-0.01)
    tables = [
        table(obtain(request, ghost_batches)),
        table(obtain(request, whole_batches, other)),
    ]
    ghosts, whole = map(_best, tables)
    shared = ghosts.keys() & whole.keys()
    if len(shared) < 2:
        raise NotRun("fewer than two batches whose best rates lie within both ladders")
    ghosts, whole = ({batch: own[batch] for batch in shared} for own in (ghosts, whole))
    x = np.log2(sorted(ghosts))
    interaction = _trend(x, whole, "accuracy") - _trend(x, ghosts, "accuracy")
    batches = np.array(sorted(ghosts), dtype=np.float64)
    panel = Panel(
        "batch size, examples", "test accuracy at the best rate",
        (_curve("ghost batches of 16", ghosts, batches), _curve("whole batches", whole, batches)), log_x=True,
    )  # fmt: skip
    return Evidence(
        (over_seeds("difference of the trends", interaction, "fraction",
                    "accuracy for each doubling of B, whole − ghost", other_than(0)),),
        (panel,), sum(map(len, tables)), f"{_NETWORK}, batch norm, 2,000 steps",
    )  # fmt: skip


class _Chosen:
    """Metrics [S] of one batch at the rate that the other half of the seeds finds best.

    `accuracy` and `train_loss` are each at the rate best for itself, `loss_there` is the training loss at the rate best
    for accuracy. `at_end` says whether that is an end of its ladder, so that a better one may lie beyond.
    """

    def __init__(self, runs: pd.DataFrame, settings: list[str] | None = None) -> None:
        accuracy, losses = (
            runs.pivot(index="seed", columns=settings or ["learning_rate"], values=name)
            .sort_index()
            .to_numpy(dtype=np.float64)
            for name in ("accuracy", "train_loss")
        )
        # A run that diverged has no training loss; no rate at which one did is best.
        losses = np.where(np.isfinite(losses), losses, math.inf)
        self.accuracy, self.train_loss, self.loss_there = (np.empty(len(accuracy)) for _ in range(3))
        half, self.at_end = len(accuracy) // 2, False
        for own, other in ((slice(None, half), slice(half, None)), (slice(half, None), slice(None, half))):
            best, lowest = int(accuracy[other].mean(0).argmax()), int(losses[other].mean(0).argmin())
            self.at_end |= best in (0, accuracy.shape[1] - 1)
            self.accuracy[own], self.loss_there[own] = accuracy[own, best], losses[own, best]
            self.train_loss[own] = losses[own, lowest]


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
    runs = table(obtain(request, build, _world(request, edge)))
    found = _best(runs)
    batches = np.array(sorted(found), dtype=np.float64)
    x = np.log2(batches)
    panels = (
        Panel("batch size, examples", "test accuracy", (_curve("at the rate best for it", found, batches),),
              log_x=True),
        Panel("batch size, examples", "training loss, nats",
              (_curve("at the rate best for it", found, batches, "train_loss"),
               _curve("at the rate best for accuracy", found, batches, "loss_there")), log_x=True),
    )  # fmt: skip

    def trend(name: str, unit: str, convention: str) -> Statistic:
        label = "test accuracy" if name == "accuracy" else "training loss"
        return over_seeds(f"{label} for each doubling of B", _trend(x, found, name), unit, convention, below(0))

    return Evidence(
        (
            trend("accuracy", "fraction", "at the rate best for it"),
            trend("train_loss", "nats", "at the rate best for it"),
        ),
        panels, len(runs), setting, beside=(trend("loss_there", "nats", "at the rate best for accuracy"),),
    )  # fmt: skip


def _world(request: Request, edge: float) -> World:
    """Large batches cannot reach the best noise before the edge; taken out, noise does nothing and no rate fails."""
    return World(curvature=0.0, edge=1e6, loss_below=6.0) if request.null else World(edge=edge, loss_below=6.0)


def _trend(x: Floats, found: dict[int, _Chosen], name: str) -> Floats:
    return slopes(x, np.stack([getattr(found[batch], name) for batch in sorted(found)], 1))


def _curve(label: str, found: dict[int, _Chosen], batches: Floats, name: str = "accuracy") -> Curve:
    values = np.stack([getattr(found[int(batch)], name) for batch in batches], 1)
    mean, half = values.mean(0), 2 * values.std(0, ddof=1) / math.sqrt(len(values))
    return Curve(label, batches, mean, mean - half, mean + half)
