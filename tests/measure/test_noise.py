"""Gradient noise on problems with known answers: bias, coverage, and the case that |G|² may be 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from noisescale import measure
from noisescale.errors import BadInput
from noisescale.measure import GradientNoise

SIZE = 12


class Rows(nn.Module):
    """Outputs θ·x, so that the gradient of an example's output is x."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(size, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.theta


def output(outputs: Tensor, _targets: Tensor) -> Tensor:
    return outputs.mean()


def noise_of(gradients: np.ndarray, population: float | None) -> GradientNoise:
    rows = torch.as_tensor(gradients)
    return measure.gradient_noise(Rows(rows.shape[1]), output, (rows, rows[:, 0]), population)


Draw = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class Setting:
    """Draw per-example gradients with a known mean and covariance."""

    mean: np.ndarray
    root: np.ndarray
    heavy: bool = False

    def draw(self, generator: np.random.Generator, n: int) -> np.ndarray:
        noise = generator.standard_normal((n, self.root.shape[1]))
        if self.heavy:
            noise = generator.standard_t(8, noise.shape) / math.sqrt(8 / 6)
        return self.mean + noise @ self.root.T

    @property
    def trace(self) -> float:
        return float((self.root**2).sum())

    @property
    def norm(self) -> float:
        return float(self.mean @ self.mean)


FULL = np.diag(np.linspace(0.5, 2.0, SIZE))
FLAT = np.eye(SIZE, 2) * 2
SETTINGS = {
    "strong": Setting(np.full(SIZE, 0.9), FULL),
    "middle": Setting(np.full(SIZE, 0.35), FULL),
    "weak": Setting(np.full(SIZE, 0.1), FULL),
    "none": Setting(np.zeros(SIZE), FULL),
    "few directions": Setting(np.full(SIZE, 0.2), FLAT),
    "no gradient, few directions": Setting(np.zeros(SIZE), FLAT),
    "heavy tails": Setting(np.full(SIZE, 0.9), FULL, heavy=True),
}
N = 64


def repeat(setting: Setting, draws: int, finite: bool) -> tuple[dict[str, tuple[int, int]], dict[str, list[float]]]:
    """Return how often each interval contained the true value, the number of bounded intervals, and the values."""
    generator = np.random.default_rng(5)
    hits = dict.fromkeys(("trace", "norm", "scale", "bounded", "clear", "clear bounded"), 0)
    values: dict[str, list[float]] = {"trace": [], "norm": []}
    for _ in range(draws):
        if finite:
            whole = setting.draw(generator, 3 * N)
            truth = noise_of(whole, None)
            trace, norm = truth.trace_covariance.value, truth.gradient_norm_squared.value
            sample, population = whole[generator.permutation(len(whole))[:N]], float(len(whole))
        else:
            trace, norm = setting.trace, setting.norm
            sample, population = setting.draw(generator, N), math.inf
        noise = noise_of(sample, population)
        scale = trace / norm if norm else math.inf
        for key, truth_value, estimate in (
            ("trace", trace, noise.trace_covariance), ("norm", norm, noise.gradient_norm_squared),
            ("scale", scale, noise.gradient_noise_scale),
        ):  # fmt: skip
            hits[key] += estimate.low <= truth_value <= estimate.high
        values["trace"].append(noise.trace_covariance.value - trace)
        values["norm"].append(noise.gradient_norm_squared.value - norm)
        clear = noise.gradient_norm_squared.value > 4 * noise.gradient_norm_squared.standard_error
        bounded = math.isfinite(noise.gradient_noise_scale.high)
        hits["bounded"] += bounded
        hits["clear"] += clear
        hits["clear bounded"] += clear and bounded
    return {key: (count, draws) for key, count in hits.items()}, values


def check_coverage(name: str, finite: bool, draws: int) -> None:
    setting = SETTINGS[name]
    hits, values = repeat(setting, draws, finite)
    for key, errors in values.items():
        deviations = np.array(errors)
        assert abs(deviations.mean()) < 4 * deviations.std(ddof=1) / math.sqrt(draws), f"{key} is biased"
    slack = 3 * math.sqrt(0.95 * 0.05 / draws)
    sigma = setting.root @ setting.root.T
    variance = 4 * setting.mean @ sigma @ setting.mean / N + 2 * np.trace(sigma @ sigma) / (N * (N - 1))
    signal = setting.norm > 3 * math.sqrt(variance)
    for key in ("trace", "norm", "scale"):
        share = hits[key][0] / draws
        assert share >= 0.92 - slack * (draws < 500)
        if key == "trace" or signal:
            assert share <= 0.98 + slack * (draws < 500)
    if hits["clear"][0]:
        assert hits["clear bounded"][0] >= 0.95 * hits["clear"][0]


@pytest.mark.short
@pytest.mark.parametrize("finite", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_intervals_cover(name: str, finite: bool) -> None:
    check_coverage(name, finite, 100)


@pytest.mark.full
@pytest.mark.parametrize("finite", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_intervals_cover_in_many_draws(name: str, finite: bool) -> None:
    check_coverage(name, finite, 1000)


def test_the_jackknife_equals_leaving_out_each_example() -> None:
    """Compare the formula from sums with leaving out each example in turn."""
    gradients = np.random.default_rng(0).standard_normal((9, SIZE)) + 0.3
    noise = noise_of(gradients, math.inf)
    left = [noise_of(np.delete(gradients, place, 0), math.inf) for place in range(9)]
    spread = np.array([one.trace_covariance.value for one in left])
    error = math.sqrt(8 / 9 * ((spread - spread.mean()) ** 2).sum())
    assert noise.trace_covariance.standard_error == pytest.approx(error, rel=1e-10)


def test_a_problem_larger_than_the_memory_limit_gives_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = np.random.default_rng(0).standard_normal((40, SIZE)) + 0.3
    kept = noise_of(gradients, math.inf)
    monkeypatch.setattr("noisescale.measure.noise._KEPT_NUMBERS", 0)
    again = noise_of(gradients, math.inf)
    assert again.gradients == 2 * kept.gradients == 80
    assert again.gradient_noise_scale.value == pytest.approx(kept.gradient_noise_scale.value, rel=1e-12)
    assert again.gradient_norm_squared.standard_error == pytest.approx(kept.gradient_norm_squared.standard_error)


def test_training_data_are_not_fresh_data() -> None:
    gradients = np.random.default_rng(0).standard_normal((200, SIZE))
    noise = noise_of(gradients - gradients.mean(0), math.inf)
    assert noise.gradient_norm_squared.value < 0 and "trained on" in noise.status
    assert noise.gradient_noise_scale.interval == (0.0, math.inf)


def test_noise_of_batches_equals_noise_of_their_examples() -> None:
    generator, setting = np.random.default_rng(1), SETTINGS["strong"]
    shares = []
    for _ in range(60):
        rows = torch.as_tensor(setting.draw(generator, 320)).view(40, 8, SIZE)
        noise = measure.batch_gradient_noise(Rows(), output, [(part, part[:, 0]) for part in rows])
        assert noise.examples == 320
        trace, scale = noise.trace_covariance, noise.gradient_noise_scale
        ratio = setting.trace / setting.norm
        shares.append([trace.low <= setting.trace <= trace.high, scale.low <= ratio <= scale.high])
    assert (np.mean(shares, 0) > stats.binom.ppf(0.001, 60, 0.95) / 60).all()


@pytest.mark.parametrize("population", [0, -3, 5.5, 4, math.nan])
def test_a_population_that_contradicts_the_data_is_refused(population: float) -> None:
    with pytest.raises(BadInput, match="population"):
        noise_of(np.eye(SIZE), population)
