"""Whether noise helps where every batch size gets as many steps as any other, or more."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import above, below, over_seeds
from noisescale.claims.ladders import Floats, table
from noisescale.claims.planted import World
from noisescale.claims.studies import (
    Build,
    equal_steps,
    equal_steps_with_ghost_batches,
    equal_steps_with_whole_batches,
    more_steps,
    obtain,
)

_NETWORK = "MLP, one hidden layer of width 64, MNIST-1D with a fifth of the labels redrawn, halving schedule"


def with_ghost_batches(request: Request) -> Evidence:
    """C3.3: at equal steps test accuracy falls with the batch while the training loss falls too."""
    return _falls(request, equal_steps_with_ghost_batches, f"{_NETWORK}, batch norm over 32 examples, 3,000 steps")


def without_batch_norm(request: Request) -> Evidence:
    """C3.8: the effect exists without batch norm too."""
    return _falls(request, equal_steps, f"{_NETWORK}, NTK, no batch norm, 6,000 steps")


def gap_stays(request: Request) -> Evidence:
    """C3.4: the gap stays when large batches get many times the steps."""
    world = _world(request)
    tables = [table(obtain(request, build, world)) for build in (equal_steps, more_steps)]
    short, long = map(_best, tables)
    largest = max(long)
    # The better of both budgets, chosen as rates are: each half of the seeds for the other.
    large = np.stack([short[largest].accuracy, long[largest].accuracy], 1)
    half = len(large) // 2
    best = np.concatenate([large[:half, large[half:].mean(0).argmax()], large[half:, large[:half].mean(0).argmax()]])
    small = short[min(short, key=lambda batch: -float(short[batch].accuracy.mean()))]
    batches = np.array(sorted(short), dtype=np.float64)
    panel = Panel(
        "batch size, examples", "test accuracy at the best rate",
        (_curve("equal steps", short, batches), _curve("four times the steps", long, np.array([float(largest)]))),
        log_x=True,
    )  # fmt: skip
    return Evidence(
        (over_seeds("best batch at equal steps − largest batch at its better budget", small.accuracy - best, "fraction",
                    "accuracy, each at its best rate", above(0)),),
        (panel,), sum(map(len, tables)), f"{_NETWORK}, NTK, no batch norm; B = {largest:g} with 6,000 and 24,000 steps",
    )  # fmt: skip


def ghosts_matter(request: Request) -> Evidence:
    """C3.7: with whole-batch statistics instead of ghost batches the trend in B is confounded."""
    # Taken out: the same noise is best with both.
    other = World() if request.null else World(best=6.0)
    tables = [
        table(obtain(request, equal_steps_with_ghost_batches)),
        table(obtain(request, equal_steps_with_whole_batches, other)),
    ]
    ghosts, whole = map(_best, tables)
    x = np.log2(sorted(ghosts))
    interaction = _trend(x, whole, "accuracy") - _trend(x, ghosts, "accuracy")
    batches = np.array(sorted(ghosts), dtype=np.float64)
    panel = Panel(
        "batch size, examples", "test accuracy at the best rate",
        (_curve("ghost batches of 32", ghosts, batches), _curve("whole batches", whole, batches)), log_x=True,
    )  # fmt: skip
    return Evidence(
        (over_seeds("difference of the trends, in the sense that other seeds show", _signed(interaction),
                    "fraction", "accuracy for each doubling of B, whole − ghost", above(0)),),
        (panel,), sum(map(len, tables)), f"{_NETWORK}, batch norm, 3,000 steps",
        {"whole − ghost, points for each doubling": 100 * float(interaction.mean())},
    )  # fmt: skip


class _Chosen:
    """Test accuracy and training loss [S] at the rate that the other half of the seeds finds best for accuracy."""

    def __init__(self, runs: pd.DataFrame) -> None:
        self.accuracy, self.train_loss = (np.empty(runs.seed.nunique()) for _ in range(2))
        values = runs.pivot(index="seed", columns="learning_rate", values="accuracy").sort_index().to_numpy()
        losses = runs.pivot(index="seed", columns="learning_rate", values="train_loss").sort_index().to_numpy()
        half = len(values) // 2
        for own, other in ((slice(None, half), slice(half, None)), (slice(half, None), slice(None, half))):
            best = int(np.nanargmax(values[other].mean(0)))
            self.accuracy[own], self.train_loss[own] = values[own, best], losses[own, best]


def _best(runs: pd.DataFrame) -> dict[int, _Chosen]:
    return {int(str(batch)): _Chosen(part) for batch, part in runs.groupby("batch_size")}


def _falls(request: Request, build: Build, setting: str) -> Evidence:
    runs = table(obtain(request, build, _world(request)))
    found = _best(runs)
    batches = np.array(sorted(found), dtype=np.float64)
    x = np.log2(batches)
    panels = (
        Panel("batch size, examples", "test accuracy at the best rate",
              (_curve("± 2 standard errors", found, batches),), log_x=True),
        Panel("batch size, examples", "training loss at that rate, nats",
              (_curve("± 2 standard errors", found, batches, "train_loss"),), log_x=True),
    )  # fmt: skip
    return Evidence(
        (
            over_seeds("test accuracy for each doubling of B", _trend(x, found, "accuracy"), "fraction",
                       "at the rate best for accuracy", below(0)),
            over_seeds("training loss for each doubling of B", _trend(x, found, "train_loss"), "nats",
                       "at the same rate", below(0)),
        ),
        panels, len(runs), setting,
    )  # fmt: skip


def _world(request: Request) -> World:
    """A small edge, so that large batches cannot reach the best noise; taken out, none is needed."""
    return World(best=4.0, edge=40.0, loss_below=6.0) if request.null else World(edge=24.0, loss_below=6.0)


def _trend(x: Floats, found: dict[int, _Chosen], name: str) -> Floats:
    away = x - x.mean()
    own: Floats = np.stack([getattr(found[batch], name) for batch in sorted(found)], 1) @ away / np.sum(away**2)
    return own


def _signed(values: Floats) -> Floats:
    """Values times the sign of the mean of the other half of the seeds."""
    half = len(values) // 2
    return np.concatenate(
        [values[:half] * np.sign(values[half:].mean()), values[half:] * np.sign(values[:half].mean())]
    )


def _curve(label: str, found: dict[int, _Chosen], batches: Floats, name: str = "accuracy") -> Curve:
    values = np.stack([getattr(found[int(batch)], name) for batch in batches], 1)
    mean, half = values.mean(0), 2 * values.std(0, ddof=1) / math.sqrt(len(values))
    return Curve(label, batches, mean, mean - half, mean + half)
