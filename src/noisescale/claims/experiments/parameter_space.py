"""Mixing of weights: loss barriers between seeds, and distances along a trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from noisescale.claims.criterion import above, below
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.scale_invariant_pack import NETWORK, ScaleInvariantPack
from noisescale.claims.panel import Curve, Floats, Panel, mean_with_deviations
from noisescale.claims.statistic import over_seeds

_SEEDS = {"smoke": 10, "laptop": 16}
_PAIR = {"smoke": (0.2, 0.08), "laptop": (0.2, 0.02)}
# Number of steps before the first snapshot. Snapshots then follow every 1/(ηλ) steps.
_SETTLING = {"smoke": 600, "laptop": 1500}
_SNAPSHOTS = 21
# The distance must still grow between these lags, which are in units of 1/(ηλ). In an Ornstein-Uhlenbeck process, the
# distance would have stopped growing.
_SHORT_LAG, _LONG_LAG = 3, 10
_POSITIONS = np.linspace(0, 1, 9)

# Weights [R, …] of every layer, divided by their norm.
Directions = Mapping[str, Tensor]


def no_mixing(request: Request) -> Evidence:
    """C2.8: the loss has a barrier between seeds but not within a trajectory.

    The directions of a trajectory keep moving apart. The mean of two directions has a lower loss than the directions if
    they come from one trajectory, and a higher loss if they come from two seeds.
    """
    seeds, (rate, decay) = request.seeds(_SEEDS), _PAIR[request.scale]
    pack = ScaleInvariantPack([(rate, decay)], seeds)
    pack.train(_SETTLING[request.scale])
    snapshots: list[Directions] = []
    for _ in range(_SNAPSHOTS):
        snapshots.append(_directions(pack))
        pack.train(int(1 / (rate * decay)))
    # In the null experiment, the order is random, and a snapshot of the same trajectory replaces the other seed.
    if request.null:
        order = np.random.default_rng(request.first_seed).permutation(_SNAPSHOTS)
        snapshots = [snapshots[index] for index in order]
    last, earlier = snapshots[-1], snapshots[-1 - _LONG_LAG]
    # Each network occurs in one pair only, so that barriers are independent.
    pairs = len(seeds) // 2
    other_seeds = snapshots[0] if request.null else _roll(last, pairs)
    within, between = _losses_on_line(pack, earlier, last), _losses_on_line(pack, other_seeds, last)
    distances = np.stack([_distance_at_lag(snapshots, lag) for lag in range(1, _SNAPSHOTS)])
    between_seeds = _squared_distance(last, _roll(last, 1))
    barriers = (_barrier(between) - _barrier(within))[:pairs]
    growth = distances[_LONG_LAG - 1] - distances[_SHORT_LAG - 1]
    lags = np.arange(1.0, _SNAPSHOTS)
    loss_curves = (
        Curve("between seeds", _POSITIONS, between.mean(1)),
        Curve("within a trajectory", _POSITIONS, within.mean(1)),
    )
    distance_curves = (
        mean_with_deviations("measured", lags, distances),
        Curve("between different seeds", lags[[-1]], between_seeds.mean(keepdims=True)),
        Curve("random steps of √(2ηλ), 2(1 − e^(−ηλt))", lags, 2 * (1 - np.exp(-lags)), kind="theory"),
    )
    gain = "mean training loss of two directions minus the training loss of their mean"
    return Evidence(
        statistics=(
            over_seeds("barrier between seeds minus barrier within a trajectory", barriers, "nats",
                       f"training loss on the line between directions; within: {_LONG_LAG}/(ηλ) apart", above(0)),
            over_seeds("growth of the distance", growth, "1",
                       f"squared distance of directions at lag {_LONG_LAG}/(ηλ) minus lag {_SHORT_LAG}/(ηλ), mean "
                       "over starts", above(0)),
            over_seeds("gain from averaging within a trajectory", _gain_of_averaging(within), "nats",
                       f"{gain}; directions {_LONG_LAG}/(ηλ) apart", above(0)),
            over_seeds("gain from averaging across seeds", _gain_of_averaging(between)[:pairs], "nats", gain, below(0)),
        ),
        panels=(
            Panel("position on the line", "training loss, nats", loss_curves),
            Panel("lag in units of 1/(ηλ)", "squared distance of directions", distance_curves),
        ),
        runs=len(seeds),
        setting=f"{NETWORK}; η = {rate:g}, λ = {decay:g}; every layer's weights divided by their norm, normalizations "
        "with statistics of the training set",
        reported={
            "squared distance of seeds": float(between_seeds.mean()), "barrier within": float(_barrier(within).mean()),
        },
    )  # fmt: skip


def _directions(pack: ScaleInvariantPack) -> Directions:
    parameters = pack.trainer.state.parameters
    return {name: w / w.flatten(1).norm(dim=1).view(-1, *(1,) * (w.dim() - 1)) for name, w in parameters.items()}


def _roll(directions: Directions, shift: int) -> Directions:
    """Shift the runs, so that each seed is paired with another."""
    return {name: weights.roll(shift, 0) for name, weights in directions.items()}


def _squared_distance(first: Directions, second: Directions) -> Floats:
    """Return the squared distance [R], averaged over layers."""
    layers = [(weights - second[name]).flatten(1).square().sum(1) for name, weights in first.items()]
    distance: Floats = torch.stack(layers).mean(0).numpy()
    return distance


def _distance_at_lag(snapshots: Sequence[Directions], lag: int) -> Floats:
    """Return the squared distance [R] between snapshots at a lag, averaged over the first snapshot."""
    pairs = zip(snapshots[:-lag], snapshots[lag:], strict=True)
    distance: Floats = np.mean([_squared_distance(first, second) for first, second in pairs], 0)
    return distance


def _losses_on_line(pack: ScaleInvariantPack, first: Directions, second: Directions) -> Floats:
    """Compute the training loss [M, R] along the straight line between two directions."""
    rows = []
    for position in _POSITIONS:
        mixed = {name: torch.lerp(weights, second[name], float(position)) for name, weights in first.items()}
        rows.append(pack.training_losses(mixed).numpy())
    return np.stack(rows)


def _gain_of_averaging(losses: Floats) -> Floats:
    """Return the mean loss [R] of both ends of a line minus the loss at its center."""
    gain: Floats = (losses[0] + losses[-1]) / 2 - losses[len(_POSITIONS) // 2]
    return gain


def _barrier(losses: Floats) -> Floats:
    """Return the largest rise [R] of the loss [M, R] above the straight line between the losses at both ends."""
    chord = losses[0] + _POSITIONS[:, None] * (losses[-1] - losses[0])
    barrier: Floats = (losses - chord).max(0)
    return barrier
