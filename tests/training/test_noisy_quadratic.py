"""On the noisy quadratic model, the second moments of training agree with theory, for all samplings and momenta."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from noisescale.datasets import Dataset
from noisescale.theory import gradient_noise, second_moments, stationary_variance
from noisescale.training import PackTrainer

if TYPE_CHECKING:
    from conftest import MakeRun

CURVATURES = (0.2, 1.0, 3.0)
EXAMPLES, BATCH, RUNS = 24, 4, 1000
STEPS = (1, 3, 6, 8, 12, 36, 37, 40)


class Quadratic(nn.Module):
    """Outputs √h_k θ_k for all inputs, so that the squared error for targets √h_k c_ik is Σ_k h_k(θ_k − c_ik)²/2."""

    def __init__(self, width: int, _shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("root", torch.tensor(CURVATURES, dtype=torch.float64).sqrt())

    def forward(self, inputs: Tensor) -> Tensor:
        return (self.root * self.theta).expand(len(inputs), -1)


@pytest.fixture(scope="module")
def minima() -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(EXAMPLES, len(CURVATURES), generator=generator, dtype=torch.float64) + 0.5


def moments_of_the_trainer(
    minima: Tensor, make_run: MakeRun, sampling: str, momentum: float, nesterov: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return (θ − c̄)² of every run at the observed steps, shape [steps, R, K], and these steps."""
    targets = minima * torch.tensor(CURVATURES, dtype=torch.float64).sqrt()
    empty = torch.zeros(0, 1)
    data = Dataset("quadratic", torch.zeros(EXAMPLES, 1), targets, empty, empty, torch.zeros(2, 1), targets[:2],
                   (1,), len(CURVATURES), float("nan"), "quadratic")  # fmt: skip
    base = make_run(
        train_size=EXAMPLES, batch_size=BATCH, sampling=sampling, loss="mse", parameterization="own", evaluations=2,
        steps=STEPS[-1], learning_rate=0.15, momentum=momentum, nesterov=nesterov,
    )  # fmt: skip
    runs = [replace(base, seed=seed) for seed in range(RUNS)]
    trainer = PackTrainer(runs, data, Quadratic, reference_width=2, kernel="vmap")
    squares = []
    for step in STEPS:
        trainer.advance(step)
        squares.append((trainer.state.parameters["theta"] - minima.mean(0)).square().numpy())
    return np.array(squares), np.array(STEPS)


@pytest.mark.parametrize("sampling", ["with_replacement", "subset", "epoch_shuffle"])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.8, False), (0.8, True)])
def test_second_moments_are_exact_within_their_errors(
    sampling: str, momentum: float, nesterov: bool, minima: Tensor, make_run: MakeRun
) -> None:
    squares, steps = moments_of_the_trainer(minima, make_run, sampling, momentum, nesterov)
    mean, error = squares.mean(1), squares.std(1, ddof=1) / np.sqrt(RUNS)
    spread = minima.var(0, correction=0)
    theory = np.stack(
        [
            second_moments(0.15, h, gradient_noise(h, float(s2), BATCH, EXAMPLES, sampling), steps[-1],
                           momentum=momentum, nesterov=nesterov, start=float(-c))[steps]
            for h, s2, c in zip(CURVATURES, spread, minima.mean(0), strict=True)
        ],
        axis=1,
    )  # fmt: skip
    scores = (mean - theory) / error
    # The largest of 24 deviations exceeds this bound once in a thousand tests.
    assert np.abs(scores).max() < stats.norm.isf(0.0005 / scores.size)


def test_the_theory_of_another_sampling_does_not_fit(minima: Tensor, make_run: MakeRun) -> None:
    """The test above has power: with the theory of another sampling, the deviations are far too large."""
    squares, steps = moments_of_the_trainer(minima, make_run, "epoch_shuffle", 0.0, False)
    mean, error = squares.mean(1)[:, 2], squares.std(1, ddof=1)[:, 2] / np.sqrt(RUNS)
    for sampling in ("subset", "with_replacement"):
        noise = gradient_noise(3.0, float(minima[:, 2].var(correction=0)), BATCH, EXAMPLES, sampling)
        wrong = second_moments(0.15, 3.0, noise, steps[-1], start=float(-minima[:, 2].mean()))[steps]
        assert np.abs((mean - wrong) / error).max() > 10


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("rate", [0.01, 0.3, 1.5])
def test_the_second_moments_converge_to_the_stationary_variance(momentum: float, rate: float) -> None:
    noise = gradient_noise(1.2, 0.7, 5, 40, "subset")
    moments = second_moments(rate, 1.2, noise, 6000, momentum=momentum, start=2.0)
    assert moments[-1] == pytest.approx(stationary_variance(rate, 1.2, noise.variance, momentum), rel=1e-9)
