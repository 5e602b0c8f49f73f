"""Gradient descent on the whole training set with weight decay: spikes of the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from noisescale.claims.criterion import above, below
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.scale_invariant_pack import ScaleInvariantPack
from noisescale.claims.panel import Curve, Floats, Panel
from noisescale.claims.statistic import over_seeds

_SEEDS = {"smoke": 3, "laptop": 6}
_EXAMPLES, _RATE, _DECAY = 200, 2.0, 0.0025
# Number of steps before decay is switched off, and again after it. Spikes are counted in the second half of each part.
_STEPS = {"smoke": 300, "laptop": 1200}
# Number of steps between two recorded losses.
_EVERY = 2
# A spike begins when the loss rises more than `_HIGH` nats above its median. The next spike can begin only after the
# loss has fallen to within `_LOW` nats of the median. Without decay, the loss varies by less than `_LOW` in all steps.
_HIGH, _LOW = 0.03, 0.015
# The toy problem L = x²/(x² + y²) is the paper's smallest example.
_TOY_RATE, _TOY_DECAY, _TOY_STEPS, _TOY_HIGH, _TOY_LOW = 0.1, 0.05, 4000, 0.1, 0.01
_TOY_SHOWN = 300


def spikes_of_descent(request: Request) -> Evidence:
    """C2.10: the loss spikes repeatedly with decay, and not without decay or after decay is switched off."""
    seeds, steps = request.seeds(_SEEDS), _STEPS[request.scale]
    decay = 0.0 if request.null else _DECAY  # in the null experiment, no run has decay
    count = len(seeds)
    # Each seed trains three times: with decay throughout, with decay that is switched off, and without decay.
    pairs = [(_RATE, decay)] * 2 + [(_RATE, 0.0)]
    pack = ScaleInvariantPack(pairs, seeds, train_size=_EXAMPLES, batch_size=_EXAMPLES)
    before = _losses(pack, steps)
    pack.change([(_RATE, decay)] * count + [(_RATE, 0.0)] * (2 * count))
    after = _losses(pack, steps)
    second_half = slice(steps // (2 * _EVERY), None)
    spikes_before, spikes_after = (
        _spikes(losses[second_half], _HIGH, _LOW).reshape(3, count) for losses in (before, after)
    )
    always, switched, never = spikes_after
    toy = [_toy_losses(seeds, toy_decay) for toy_decay in (0.0 if request.null else _TOY_DECAY, 0.0)]
    toy_with, toy_without = (_spikes(losses[_TOY_STEPS // 2 :], _TOY_HIGH, _TOY_LOW) for losses in toy)
    last = f"in the last {steps // 2} steps"
    return Evidence(
        statistics=(
            over_seeds("spikes with decay minus spikes without", always - never, "spikes", last, above(1),
                       resolution=1),
            over_seeds("spikes before decay is switched off", spikes_before[1], "spikes",
                       f"in the {steps // 2} steps before", above(1), resolution=1),
            over_seeds("spikes after decay is switched off", switched, "spikes", last, below(1), resolution=1),
            over_seeds("spikes of x²/(x² + y²) with decay minus spikes without", toy_with - toy_without, "spikes",
                       f"in the last {_TOY_STEPS // 2} steps", above(1), resolution=1),
        ),
        panels=_panels(np.concatenate([before, after]).reshape(-1, 3, count)[:, :, 0], toy),
        runs=5 * count,
        setting=f"MLP of two hidden layers of width 32, batch norm without gains, fixed read-out, float64, {_EXAMPLES} "
        f"digits in one batch; η = {_RATE:g}, λ = {_DECAY:g}; x²/(x² + y²) with η = {_TOY_RATE:g}, λ = {_TOY_DECAY:g}",
    )  # fmt: skip


def _panels(losses: Floats, toy: Sequence[Floats]) -> tuple[Panel, Panel]:
    """Draw the losses [M, 3] of the first seed, and the last steps of the toy problem."""
    names = ("with decay", "decay switched off half way", "without decay")
    x, toy_x = _EVERY * np.arange(1.0, len(losses) + 1), np.arange(float(_TOY_SHOWN))
    curves = tuple(Curve(name, x, values) for name, values in zip(names, losses.T, strict=True))
    toy_curves = tuple(
        Curve(name, toy_x, np.maximum(values[-_TOY_SHOWN:, 0], 1e-18))
        for name, values in zip((names[0], names[2]), toy, strict=True)
    )
    return (
        Panel("step", "loss of the whole training set, nats", curves, log_y=True),
        Panel("step", "x²/(x² + y²)", toy_curves, log_y=True),
    )


def _losses(pack: ScaleInvariantPack, steps: int) -> Floats:
    """Train, and return the training loss [M, R] at every second step."""
    rows = []
    for _ in range(steps // _EVERY):
        pack.train(_EVERY)
        rows.append(pack.training_losses())
    return torch.stack(rows).numpy()


def _spikes(losses: Floats, high: float, low: float) -> Floats:
    """Count the spikes in each column of the losses [M, R].

    A spike is a rise above the median by more than `high`, after a fall to within `low` of the median.
    """
    above_median = losses - np.median(losses, axis=0)
    spikes, in_spike = np.zeros(losses.shape[1]), np.zeros(losses.shape[1], dtype=bool)
    for row in above_median:
        spikes += (row > high) & ~in_spike
        in_spike = np.where(in_spike, row > low, row > high)
    return spikes


def _toy_losses(seeds: Sequence[int], decay: float) -> Floats:
    """Return x²/(x² + y²), shape [T, S], along descent with decay. Each seed starts in a different direction."""
    angles = np.array([np.random.default_rng(seed).uniform(0.2, 1.3) for seed in seeds])
    w = np.stack([np.sin(angles), np.cos(angles)])
    losses = []
    for _ in range(_TOY_STEPS):
        square = (w**2).sum(0)
        loss = w[0] ** 2 / square
        losses.append(loss)
        gradient = 2 * w * np.stack([1 - loss, -loss]) / square
        w = (1 - _TOY_RATE * decay) * w - _TOY_RATE * gradient
    return np.stack(losses)
