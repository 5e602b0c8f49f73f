"""Intervals of the Frobenius norm cover as often as they state, at coarse and at fine errors.

The matrices are ½(H + Hᵀ) in random bases. A product costs microseconds, so hundreds of measurements fit into seconds.
Limits of the coverage are three binomial standard errors around 95 %.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from noisescale import measure
from noisescale.measure.problem import Problem

SIZE = 40
SPECTRA = {
    "one large": torch.cat([torch.tensor([20.0]), torch.full((SIZE - 1,), 0.1)]).double(),
    "rank one": torch.cat([torch.ones(1), torch.zeros(SIZE - 1)]).double(),
    "power law": (1 / torch.arange(1, SIZE + 1)).double(),
    "flat": torch.linspace(0.5, 1.5, SIZE).double(),
    "both signs": torch.cat([torch.linspace(-0.5, 0, 2 * SIZE // 3), torch.linspace(0, 4, SIZE // 3)]).double(),
}


class Dense(Problem):
    """A problem whose Hessian is a matrix."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.point, self.coordinates, self.mode = matrix, matrix[0], "module", "eval"

    def check_curvature(self) -> None:
        """A matrix is symmetric by construction."""

    def hessian_product(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector


def coverage(spectrum: str, relative_error: float, draws: int) -> tuple[float, float]:
    """Return the share of intervals that contain the norm, and the mean error of the estimates."""
    values, generator = SPECTRA[spectrum], torch.Generator().manual_seed(1)
    truth, covered, errors = float(values.norm()), 0, []
    for seed in range(draws):
        basis = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)).Q
        problem = Dense(basis @ torch.diag(values) @ basis.T)
        norm = measure.hessian_frobenius_norm(problem, relative_error=relative_error, seed=seed)
        covered += norm.estimate.covers(truth)
        errors.append((norm.estimate.value / truth - 1) ** 2)
        assert norm.status == "ok" and norm.estimate.standard_error <= relative_error * norm.estimate.value
    return covered / draws, math.sqrt(sum(errors) / draws)


@pytest.mark.short
@pytest.mark.parametrize("spectrum", ["one large", "power law"])
@pytest.mark.parametrize(("relative_error", "draws"), [(0.2, 200), (0.1, 120), (0.05, 80)])
def test_the_norm_is_covered(spectrum: str, relative_error: float, draws: int) -> None:
    share, error = coverage(spectrum, relative_error, draws)
    assert share >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / draws)
    assert error <= 1.1 * relative_error


@pytest.mark.full
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("relative_error", [0.2, 0.1, 0.05])
def test_the_norm_is_covered_in_many_draws(spectrum: str, relative_error: float) -> None:
    share, error = coverage(spectrum, relative_error, 1000)
    slack = 3 * math.sqrt(0.95 * 0.05 / 1000)
    assert 0.95 - slack <= share <= 0.95 + 1.5 * slack
    assert error <= 1.1 * relative_error


def test_a_diagonal_matrix_has_no_sampling_error() -> None:
    norm = measure.hessian_frobenius_norm(Dense(torch.diag(SPECTRA["flat"])))
    assert norm.estimate.value == pytest.approx(float(SPECTRA["flat"].norm()), rel=1e-12)
    assert norm.estimate.standard_error < 1e-7
    zero = measure.hessian_frobenius_norm(Dense(torch.zeros(3, 3).double()))
    assert zero.estimate.value == 0 and zero.estimate.interval == (0.0, 0.0) and zero.products == 12
