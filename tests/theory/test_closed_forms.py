"""Closed forms compared with simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_lyapunov
from torch import nn

from noisescale import theory
from noisescale.errors import BadInput


def test_the_norm_recursion_is_exact_for_a_scale_invariant_network() -> None:
    """A layer before a normalization without ε, under SGD with decay. The tolerance allows for round-off only."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, dtype=torch.float64, generator=generator)
    y = torch.randint(3, (64,), generator=generator)
    w = torch.randn(5, 6, dtype=torch.float64, generator=generator).requires_grad_()
    out = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    rate, decay, squares, norms = 0.3, 0.02, [], [float(w.detach().square().sum())]
    for _ in range(50):
        batch = torch.randperm(64, generator=generator)[:8]
        hidden = x[batch] @ w.T
        # A common scale makes the loss invariant to the scale of w.
        loss = nn.functional.cross_entropy(hidden / hidden.square().mean().sqrt() @ out.T, y[batch])
        (gradient,) = torch.autograd.grad(loss, w)
        squares.append(float(gradient.square().sum()) * norms[-1])  # ‖ĝ‖² = ‖g‖²‖w‖²
        with torch.no_grad():
            w = ((1 - rate * decay) * w - rate * gradient).requires_grad_()
        norms.append(float(w.detach().square().sum()))
    np.testing.assert_allclose(theory.norm_recursion(norms[0], squares, rate, decay), norms, rtol=1e-12)


def test_the_norm_recursion_broadcasts_over_weights() -> None:
    """Equal products of equal numbers differ by a few units in the last place."""
    rng = np.random.default_rng(0)
    starts, squares = rng.uniform(1, 2, (4, 3)), rng.uniform(1, 2, (20, 4, 3))
    rates, decays = rng.uniform(0.1, 0.3, 20), rng.uniform(0.01, 0.1, (20, 1, 3))
    norms = theory.norm_recursion(starts, squares, rates[:, None, None], decays)
    assert norms.shape == (21, 4, 3)
    for run, layer in np.ndindex(4, 3):
        alone = theory.norm_recursion(starts[run, layer], squares[:, run, layer], rates, decays[:, 0, layer])
        np.testing.assert_allclose(norms[:, run, layer], alone, rtol=1e-13)
    np.testing.assert_allclose(
        theory.norm_recursion(starts, squares, rates, 0.1)[:, 0, 0],
        theory.norm_recursion(starts[0, 0], squares[:, 0, 0], rates, 0.1), rtol=1e-13,
    )  # fmt: skip


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_norm_and_rotation_settle_at_their_equilibrium(momentum: float) -> None:
    """Random gradients with unit second moment, orthogonal to the weights, for many weights."""
    generator, weights, size = np.random.default_rng(1), 300, 200
    rate, decay = 0.1 * (1 - momentum), 0.05
    end = theory.equilibrium(rate, decay, 1.0, momentum)
    w = generator.standard_normal((weights, size))
    w *= end.norm / np.linalg.norm(w, axis=1, keepdims=True)
    velocity, fourth, turns = np.zeros_like(w), [], []
    steps = int(12 / end.relaxation)
    for step in range(2 * steps):
        squared = (w**2).sum(1, keepdims=True)
        gradient = generator.standard_normal(w.shape) / math.sqrt(size - 1)
        gradient -= (gradient * w).sum(1, keepdims=True) / squared * w
        velocity = momentum * velocity + gradient / np.sqrt(squared) + decay * w
        after = w - rate * velocity
        if step >= steps:
            cosine = (w * after).sum(1) / np.linalg.norm(w, axis=1) / np.linalg.norm(after, axis=1)
            turns.append(np.mean(2 * (1 - cosine)))
            fourth.append(np.mean((w**2).sum(1) ** 2))
        w = after
    assert np.mean(fourth) ** 0.25 == pytest.approx(end.norm, rel=0.02)
    assert math.sqrt(np.mean(turns)) == pytest.approx(end.rotation, rel=0.02)
    assert end.effective_learning_rate == pytest.approx(rate / end.norm**2)


def test_the_fourth_power_of_the_norm_relaxes_at_four_times_the_intrinsic_rate() -> None:
    rate, decay = 0.1, 0.01
    end = theory.equilibrium(rate, decay, 1.0)
    path = theory.norm_recursion(4 * end.norm**2, np.ones(2000), rate, decay) ** 2 - end.norm**4
    speed = -np.polyfit(np.arange(2001)[:500], np.log(path[:500]), 1)[0]
    assert speed == pytest.approx(end.relaxation, rel=0.01)
    assert theory.intrinsic_learning_rate(rate, decay) == pytest.approx(0.001)
    assert theory.intrinsic_learning_rate(rate, 0.0, rate_growth=0.002) == pytest.approx(0.001)


def test_the_catapult_map_equals_gradient_descent_on_two_layers() -> None:
    generator, n, rate = np.random.default_rng(0), 100, 0.0
    u, v = generator.standard_normal((2, n))
    lam = (u @ u + v @ v) / n
    for share in (1.0, 3.0):  # below the edge, and in the range of the catapult
        rate = share / lam
        a, b, outputs = u.copy(), v.copy(), []
        for _ in range(100):
            f = a @ b / math.sqrt(n)
            outputs.append(f)
            a, b = a - rate * f * b / math.sqrt(n), b - rate * f * a / math.sqrt(n)
        predicted, curvature = theory.catapult_map(outputs[0], lam, rate, n, 99)
        np.testing.assert_allclose(predicted, outputs, rtol=1e-7, atol=1e-9)
        assert abs(predicted[-1]) < 1e-3 and (curvature[-1] < 2 / rate)
        assert (np.abs(predicted).max() > 2 * abs(predicted[0])) == (share > 2)
    assert not np.isfinite(theory.catapult_map(outputs[0], lam, 4.5 / lam, n, 99)[0][-1])


def test_small_steps_approach_the_ornstein_uhlenbeck_law() -> None:
    noise = theory.BatchNoise(0.7)
    for rate, tolerance in ((0.1, 0.12), (0.001, 0.0012)):
        steps = np.array([1, 10, 100]) * round(0.1 / rate)
        mean, variance = theory.transition(2.0, 1.0, rate, 0.7, steps)
        exact = theory.second_moments(rate, 1.0, noise, int(steps[-1]), start=2.0)[steps]
        np.testing.assert_allclose(mean**2 + variance, exact, rtol=tolerance, atol=tolerance * 0.1)


def test_the_excess_loss_of_finite_and_small_steps() -> None:
    h, s2 = np.array([0.1, 1.0, 3.0]), np.array([0.5, 0.2, 1.0])
    rate = 0.4
    by_hand = 0.25 * rate * (s2 / (1 - rate * h / 2)).sum()
    assert theory.excess_loss(rate, h, s2) == pytest.approx(by_hand, rel=1e-12)
    assert theory.excess_loss(rate, h, s2, finite_steps=False) == pytest.approx(0.1 * s2.sum())
    assert theory.excess_loss(1e-6, h, s2, 0.9) == pytest.approx(
        theory.excess_loss(1e-6, h, s2, 0.9, finite_steps=False), rel=1e-4
    )
    with pytest.raises(BadInput, match="rate"):
        theory.excess_loss(0.7, h, s2)


def test_the_excess_loss_holds_for_noise_with_any_principal_axes() -> None:
    """The stationary covariance solves P = (I − εH)P(I − εH) + ε²Σ, here with a Σ that does not commute with H."""
    generator, rate, h = np.random.default_rng(4), 0.3, np.array([0.05, 0.5, 1.5, 4.0])
    root = generator.standard_normal((4, 4))
    sigma, curvature = root @ root.T, np.diag(h)
    assert np.abs(sigma @ curvature - curvature @ sigma).max() > 1
    covariance = solve_discrete_lyapunov(np.eye(4) - rate * curvature, rate**2 * sigma)
    assert theory.excess_loss(rate, h, np.diag(sigma)) == pytest.approx(0.5 * np.trace(curvature @ covariance))
    flow = solve_continuous_lyapunov(curvature, rate * sigma)  # HP + PH = εΣ, small steps
    small = theory.excess_loss(rate, h, np.diag(sigma), finite_steps=False)
    assert small == pytest.approx(0.5 * np.trace(curvature @ flow)) == pytest.approx(rate * np.trace(sigma) / 4)


def test_the_gibbs_law_of_two_distant_parabolas() -> None:
    """The sum over a grid of the lower parabola equals Laplace's closed form, since the border has no weight."""
    x, n, height = np.linspace(-20, 20, 400_001), 0.05, 0.1
    a, b = height + 0.5 * 1.0 * (x + 4) ** 2, 0.5 * 9.0 * (x - 4) ** 2
    exact = theory.log_odds_of_regions(n, np.minimum(a, b), a < b)
    assert exact == pytest.approx(theory.log_odds_of_wells(n, height, 1.0, 9.0), abs=1e-9)
    assert exact == pytest.approx(math.log(3) - height / n, abs=1e-9)
    # In several directions the determinants enter, and swapping the wells reverses the odds.
    assert theory.log_odds_of_wells(n, height, [1.0, 2.0], [9.0, 8.0]) == pytest.approx(math.log(6) - height / n)
    assert theory.log_odds_of_wells(n, -height, 9.0, 1.0) == pytest.approx(-exact, abs=1e-9)


@pytest.mark.parametrize("factor", [1, 2, 5, 40])
def test_svag_keeps_the_mean_and_multiplies_the_covariance(factor: int) -> None:
    first, second = theory.svag_weights(factor)
    assert first + second == pytest.approx(1.0) and first**2 + second**2 == pytest.approx(factor)


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda: theory.equilibrium(0.0, 0.1, 1.0), "rate"),
        (lambda: theory.equilibrium(2.0, 0.6, 1.0), "below 1/decay"),
        (lambda: theory.equilibrium(0.1, 0.1, 1.0, 1.0), "momentum"),
        (lambda: theory.catapult_map(1.0, 1.0, 1.0, 0, 3), "width"),
        (lambda: theory.svag_weights(0), "factor"),
        (lambda: theory.excess_loss(0.1, [1.0], [1.0, 2.0]), "noise_variances"),
        (lambda: theory.log_odds_of_wells(0.0, 0.1, 1.0, 1.0), "noise"),
        (lambda: theory.log_odds_of_wells(0.1, 0.1, 1.0, [1.0, -1.0]), "curvatures_b"),
        (lambda: theory.log_odds_of_regions(0.1, [0.0, 1.0], [True, True]), "in_a"),
        (lambda: theory.gradient_noise(1.0, 1.0, 2, 10, "shuffle"), "sampling"),
        (lambda: theory.stationary_variance(3.0, 1.0, 1.0), "rate"),
    ],
)
def test_meaningless_input_is_refused(call: object, key: str) -> None:
    with pytest.raises(BadInput, match=key):
        call()  # type: ignore[operator]
