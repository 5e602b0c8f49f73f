"""The gradient noise scale along a stream of gradients, from `NoiseMonitor` and from the estimators of other tools."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from noisescale import measure

DIMENSION, PARTS, PART_SIZE = 50, 4, 16
HEADER = [
    "| \\|G\\| | measurements | estimator | median error | RMSE of the log | unusable | coverage |",
    "|---|---|---|---|---|---|---|",
]


class SmoothedRatio:
    """Ratio of the bias-corrected exponential averages of two quantities."""

    def __init__(self, decay: float) -> None:
        self._decay, self._sums, self._weight = decay, np.zeros(2), 0.0

    def add(self, numerator: float, denominator: float) -> float:
        """Add a pair of values and return the ratio of the averages."""
        self._sums = self._decay * self._sums + (1 - self._decay) * np.array([numerator, denominator])
        self._weight = self._decay * self._weight + (1 - self._decay)
        return float(self._sums[0] / self._sums[1])


def peer_estimators(parts: int, size: int) -> dict[str, Callable[[Tensor], float]]:
    """Return the estimators of three tools, by name.

    An estimator takes the mean gradient of each part of a batch, shape [parts, P], and returns a noise scale in
    examples.

    Args:
        parts: Number of parts of a batch.
        size: Number of examples in a part.
    """
    whole = parts * size
    averages = {
        "k-diffusion": SmoothedRatio(0.9998), "GPT-NeoX": SmoothedRatio(0.99), "AdaptDL": SmoothedRatio(0.999**parts)
    }  # fmt: skip

    def variance_and_signal(small: float, large: float) -> tuple[float, float]:
        return (small - large) / (1 / size - 1 / whole), (whole * large - size * small) / (whole - size)

    def two_sizes(gradients: Tensor) -> tuple[float, float]:
        return variance_and_signal(float(gradients.square().sum(1).mean()), float(gradients.mean(0).square().sum()))

    def first_part(gradients: Tensor) -> tuple[float, float]:
        return variance_and_signal(float(gradients[0].square().sum()), float(gradients.mean(0).square().sum()))

    def clipped(gradients: Tensor) -> tuple[float, float]:
        variance, signal = two_sizes(gradients)
        return max(variance, 1e-6), max(signal, 0.0)

    estimators = {"k-diffusion": two_sizes, "GPT-NeoX": first_part, "AdaptDL": clipped}
    return {
        name: lambda gradients, name=name: averages[name].add(*estimators[name](gradients))  # type: ignore[misc]
        for name in averages
    }


def noise_scale_rows(streams: int, steps: int, falling: bool) -> list[str]:
    """Tabulate the estimates at the end of streams of per-example gradients N(G, I).

    Args:
        streams: Number of streams.
        steps: Number of measurements in a stream.
        falling: Whether |G| falls to a tenth along the stream. Otherwise it is constant.
    """
    ratios: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(streams):
        for name, estimate in stream(seed, steps, falling).items():
            ratios.setdefault(name, []).append(estimate)
    kind = "falling" if falling else "constant"
    return [f"| {kind} | {steps} | {name} | {_cells(np.array(values))} |" for name, values in ratios.items()]


def stream(seed: int, steps: int, falling: bool) -> dict[str, tuple[float, float, float]]:
    """Run all estimators on one stream, and return their last values and intervals divided by the truth, by name."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Linear(DIMENSION, 1, bias=False).double()
    monitor = measure.NoiseMonitor(model, lambda outputs, _: outputs.mean(), every=1, parts=PARTS)
    peers = peer_estimators(PARTS, PART_SIZE)
    last: dict[str, float] = {}
    for step in range(steps):
        length = 10 ** (-step / (steps - 1)) if falling else 1.0
        gradient = length * torch.ones(DIMENSION, dtype=torch.float64) / math.sqrt(DIMENSION)
        batch = torch.randn(PARTS * PART_SIZE, DIMENSION, generator=generator, dtype=torch.float64) + gradient
        monitor.update(batch, batch[:, :1])
        means = batch.view(PARTS, PART_SIZE, DIMENSION).mean(1)
        last = {name: estimator(means) for name, estimator in peers.items()}
    truth = DIMENSION / length**2
    monitored = monitor.estimate()
    assert monitored is not None
    scale = monitored.gradient_noise_scale
    return {
        "noisescale": (scale.value / truth, scale.low / truth, scale.high / truth),
        **{name: (value / truth, math.nan, math.nan) for name, value in last.items()},
    }


def _cells(estimates: np.ndarray) -> str:
    ratio, low, high = estimates.T
    usable = ratio[np.isfinite(ratio) & (ratio > 0)]
    error = np.median(usable) - 1 if len(usable) else math.nan
    rmse = np.sqrt(np.mean(np.log(usable) ** 2)) if len(usable) else math.nan
    coverage = f"{np.mean((low <= 1) & (high >= 1)):.3f}" if np.isfinite(low).any() else "no interval"
    return f"{error:+.2f} | {rmse:.2f} | {1 - len(usable) / len(ratio):.2f} | {coverage}"
