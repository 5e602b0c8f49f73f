"""Descent on the whole training set with decay: whether it ever comes to rest."""

from __future__ import annotations

import numpy as np
import torch

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import above, below, over_seeds
from noisescale.claims.norm_trace import Bench, Floats, seeds_of

_SEEDS = {"smoke": 3, "laptop": 6}
_EXAMPLES, _RATE, _DECAY = 200, 2.0, 0.0025
# Steps before and after decay is switched off; spikes are counted in the last half of each.
_STEPS = {"smoke": 300, "laptop": 1200}
_LOOK = 2
# Nats above the median at which a spike begins, and below which the loss has to fall before another can begin. Without
# decay the loss moves by less than either in the whole window.
_HIGH, _LOW = 0.03, 0.015
# L = x²/(x² + y²), the paper's smallest example.
_TOY_RATE, _TOY_DECAY, _TOY_STEPS, _TOY_HIGH, _TOY_LOW = 0.1, 0.05, 4000, 0.1, 0.01


def spikes_of_descent(request: Request) -> Evidence:
    """C2.10: with decay the loss spikes again and again; without, and once decay is switched off, it does not."""
    seeds, steps = seeds_of(request, _SEEDS), _STEPS[request.scale]
    decay = 0.0 if request.null else _DECAY  # taken out: no decay anywhere
    count, half = len(seeds), steps // (2 * _LOOK)
    # Three times the same runs: with decay throughout, with decay that is switched off, and without.
    bench = Bench([(_RATE, decay)] * 2 + [(_RATE, 0.0)], seeds, train_size=_EXAMPLES, batch_size=_EXAMPLES)
    before = _losses(bench, steps)
    bench.change([(_RATE, decay)] * count + [(_RATE, 0.0)] * (2 * count))
    after = _losses(bench, steps)
    counted = [_spikes(own[half:], _HIGH, _LOW).reshape(3, count) for own in (before, after)]
    always, switched, never = (counted[1][arm] for arm in range(3))
    toy = np.stack([_toy(seeds, 0.0 if request.null else _TOY_DECAY), _toy(seeds, 0.0)])
    toy_spikes = np.stack([_spikes(own[_TOY_STEPS // 2 :], _TOY_HIGH, _TOY_LOW) for own in toy])
    losses = np.concatenate([before, after]).reshape(-1, 3, count)[:, :, 0]
    x = _LOOK * np.arange(1.0, len(losses) + 1)
    names = ("with decay", "decay switched off half way", "without decay")
    return Evidence(
        (
            over_seeds("spikes with decay, less those without", always - never, "spikes",
                       f"in the last {steps // 2} steps", above(1), resolution=1),
            over_seeds("spikes before decay is switched off", counted[0][1], "spikes",
                       f"in the {steps // 2} steps before", above(1), resolution=1),
            over_seeds("spikes after decay is switched off", switched, "spikes",
                       f"in the last {steps // 2} steps", below(1), resolution=1),
            over_seeds("spikes of x²/(x² + y²) with decay, less those without", toy_spikes[0] - toy_spikes[1], "spikes",
                       f"in the last {_TOY_STEPS // 2} steps", above(1), resolution=1),
        ),
        (
            Panel("step", "loss of the whole training set, nats",
                  tuple(Curve(name, x, own) for name, own in zip(names, losses.T, strict=True)), log_y=True),
            Panel("step", "x²/(x² + y²)",
                  tuple(Curve(name, np.arange(300.0), np.maximum(own[-300:, 0], 1e-18))
                        for name, own in zip((names[0], names[2]), toy, strict=True)), log_y=True),
        ),
        5 * count,
        f"MLP of two hidden layers of width 32, batch norm without gains, fixed read-out, float64, {_EXAMPLES} digits "
        f"in one batch; η = {_RATE:g}, λ = {_DECAY:g}; the toy with η = {_TOY_RATE:g}, λ = {_TOY_DECAY:g}",
    )  # fmt: skip


def _losses(bench: Bench, steps: int) -> Floats:
    """Loss [M, R] on the training set at every second step."""
    found = []
    for _ in range(steps // _LOOK):
        bench.skip(_LOOK)
        logs = bench.outputs(bench.inputs).log_softmax(2)
        found.append(-logs[:, torch.arange(_EXAMPLES), bench.data.y_train].mean(1))
    return torch.stack(found).numpy()


def _spikes(losses: Floats, high: float, low: float) -> Floats:
    """How often each column of [M, R] rises by `high` above its median, having been less than `low` above it before."""
    above_median = losses - np.median(losses, axis=0)
    found, up = np.zeros(losses.shape[1]), np.zeros(losses.shape[1], dtype=bool)
    for row in above_median:
        found += (row > high) & ~up
        up = np.where(up, row > low, row > high)
    return found


def _toy(seeds: list[int], decay: float) -> Floats:
    """x²/(x² + y²) [T, S] along descent with decay, from a direction of each seed's own."""
    angles = np.array([np.random.default_rng(seed).uniform(0.2, 1.3) for seed in seeds])
    w = np.stack([np.sin(angles), np.cos(angles)])
    found = []
    for _ in range(_TOY_STEPS):
        square = (w**2).sum(0)
        value = w[0] ** 2 / square
        found.append(value)
        gradient = 2 * w * np.stack([1 - value, -value]) / square
        w = (1 - _TOY_RATE * decay) * w - _TOY_RATE * gradient
    return np.stack(found)
