"""Whether directions of the weights mix as functions do: barriers between seeds, and distances that go on growing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import above, below, over_seeds
from noisescale.claims.norm_trace import Bench, Floats, seeds_of

_SEEDS = {"smoke": 10, "laptop": 16}
_PAIR = {"smoke": (0.2, 0.08), "laptop": (0.2, 0.02)}
# Steps before the first snapshot; snapshots then come every 1/(ηλ) steps.
_SETTLED = {"smoke": 600, "laptop": 1500}
_SNAPSHOTS = 21
# Lags, in units of 1/(ηλ), between which the distance must still grow; an Ornstein-Uhlenbeck process has long stopped.
_SHORT, _LONG = 3, 10
_ALONG = np.linspace(0, 1, 9)

Directions = Mapping[str, Tensor]


def no_mixing(request: Request) -> Evidence:
    """C2.8: a barrier lies between seeds and none within a trajectory, on which directions go on moving apart.

    To average two of them helps within a trajectory and harms between seeds.
    """
    seeds, (rate, decay) = seeds_of(request, _SEEDS), _PAIR[request.scale]
    bench = Bench([(rate, decay)], seeds)
    bench.skip(_SETTLED[request.scale])
    taken = []
    for _ in range(_SNAPSHOTS):
        taken.append(_directions(bench))
        bench.skip(int(1 / (rate * decay)))
    if request.null:  # taken out: snapshots in any order, and the other seed is a snapshot of the same trajectory
        taken = [taken[place] for place in np.random.default_rng(request.first_seed).permutation(_SNAPSHOTS)]
    end, earlier = taken[-1], taken[-1 - _LONG]
    # Each network in one pair only, so that barriers are independent.
    half = len(seeds) // 2
    other = taken[0] if request.null else {name: own.roll(half, 0) for name, own in end.items()}
    within, between = _line(bench, earlier, end), _line(bench, other, end)
    distances = np.stack([_at_lag(taken, lag) for lag in range(1, _SNAPSHOTS)])
    apart = _square(end, {name: own.roll(1, 0) for name, own in end.items()})
    lags = np.arange(1.0, _SNAPSHOTS)
    spread = distances.std(1, ddof=1)
    return Evidence(
        (
            over_seeds("barrier between seeds, less that within", (_barrier(between) - _barrier(within))[:half], "nats",
                       f"training loss on the line between directions; within: {_LONG}/(ηλ) apart", above(0)),
            over_seeds("growth of the distance", distances[_LONG - 1] - distances[_SHORT - 1], "1",
                       f"squared, of directions at {_LONG}/(ηλ) less at {_SHORT}/(ηλ), mean over beginnings", above(0)),
            over_seeds("gain of averaging within a trajectory", _gain(within), "nats",
                       f"training loss, mean of two directions {_LONG}/(ηλ) apart less that of their mean", above(0)),
            over_seeds("gain of averaging across seeds", _gain(between)[:half], "nats",
                       "training loss, mean of two directions less that of their mean", below(0)),
        ),
        (
            Panel("place on the line", "training loss, nats",
                  (Curve("between seeds", _ALONG, between.mean(1)),
                   Curve("within a trajectory", _ALONG, within.mean(1)))),
            Panel("lag in units of 1/(ηλ)", "squared distance of directions",
                  (Curve("measured, ± standard deviation of seeds", lags, distances.mean(1), distances.mean(1) - spread,
                         distances.mean(1) + spread),
                   Curve("of different seeds", lags[[-1]], apart.mean(keepdims=True)),
                   Curve("steps of √(2ηλ) at random, 2(1 − e^(−ηλt))", lags, 2 * (1 - np.exp(-lags)), kind="theory"))),
        ),
        len(seeds),
        "MLP of two hidden layers of width 32, batch norm without gains, fixed read-out, digits, B = 32, float64; "
        f"η = {rate:g}, λ = {decay:g}; every layer's weights divided by their norm, statistics of normalizations of "
        "the training set",
        {"squared distance of seeds": float(apart.mean()), "barrier within": float(_barrier(within).mean())},
    )  # fmt: skip


def _directions(bench: Bench) -> dict[str, Tensor]:
    """Every layer's weights [R, …] at norm 1."""
    parameters = bench.trainer.state.parameters
    return {
        name: own / own.flatten(1).norm(dim=1).view(-1, *(1,) * (own.dim() - 1)) for name, own in parameters.items()
    }


def _square(one: Directions, other: Directions) -> Floats:
    """Squared distance [R], mean over layers."""
    found = torch.stack([(own - other[name]).flatten(1).square().sum(1) for name, own in one.items()])
    return found.mean(0).numpy()


def _at_lag(taken: list[dict[str, Tensor]], lag: int) -> Floats:
    """Squared distance [R] of snapshots so far apart, mean over beginnings."""
    pairs = zip(taken[:-lag], taken[lag:], strict=True)
    found: Floats = np.mean([_square(one, other) for one, other in pairs], 0)
    return found


def _line(bench: Bench, one: Directions, other: Directions) -> Floats:
    """Training loss [M, R] along the straight line from one to the other."""
    labels = bench.data.y_train
    rows = []
    for place in _ALONG:
        mixed = {name: torch.lerp(own, other[name], float(place)) for name, own in one.items()}
        logs = bench.outputs(bench.inputs, mixed).log_softmax(2)
        rows.append(-logs[:, torch.arange(len(labels)), labels].mean(1).numpy())
    return np.stack(rows)


def _gain(losses: Floats) -> Floats:
    """Mean loss [R] of both ends of a line less that of its middle."""
    found: Floats = (losses[0] + losses[-1]) / 2 - losses[len(_ALONG) // 2]
    return found


def _barrier(losses: Floats) -> Floats:
    """How far the loss [M, R] rises above the straight line between its ends."""
    chord = losses[0] + _ALONG[:, None] * (losses[-1] - losses[0])
    found: Floats = (losses - chord).max(0)
    return found
