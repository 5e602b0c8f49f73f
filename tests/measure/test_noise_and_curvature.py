"""C and H compared by dense matrices, and sharpness under rescalings that do not change the function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import LOSSES, NETWORKS, make_case
from torch import Tensor, nn

from noisescale import measure
from noisescale.errors import BadInput


@pytest.mark.parametrize("network", NETWORKS)
def test_against_dense_matrices(network: str) -> None:
    case = make_case(network)
    hessian, gradients = case.hessian(), case.gradients()
    centred = gradients - gradients.mean(0)
    covariance = centred.T @ centred / (len(gradients) - 1)
    compared = measure.noise_and_curvature(case.model, case.loss, case.data, k=4)
    assert compared.converged and (compared.status == "ok") == (compared.cosine.standard_error <= 0.05)
    cosine = float((covariance * hessian).sum() / (covariance.norm() * hessian.norm()))
    ratio = float(covariance.trace() / hessian.trace())
    assert abs(compared.cosine.value - cosine) <= 4.5 * compared.cosine.standard_error
    assert abs(compared.trace_ratio.value - ratio) <= 4.5 * compared.trace_ratio.standard_error
    values, vectors = torch.linalg.eigh(hessian)
    values, vectors = values.flip(0)[:4], vectors.flip(1)[:, :4]
    noises = torch.einsum("pk,pq,qk->k", vectors, covariance, vectors)
    np.testing.assert_allclose(compared.curvatures, values, rtol=1e-8)
    np.testing.assert_allclose(compared.noises, noises, rtol=1e-5, atol=1e-9)
    assert compared.slope.value == pytest.approx(float((values @ noises) / (values @ values)), rel=1e-5)


@pytest.mark.full
def test_proportional_matrices_have_cosine_one() -> None:
    """Least squares at the minimum, with noise in the targets: C approaches s²H for many examples."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20_000, 5, generator=generator, dtype=torch.float64)
    targets = inputs.sum(1, keepdim=True) + 0.5 * torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    model = nn.Linear(5, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(1.0)
    half = lambda outputs, targets: 0.5 * (outputs - targets).square().sum(1).mean()  # noqa: E731
    compared = measure.noise_and_curvature(model, half, (inputs, targets), k=3)
    assert compared.cosine.value == pytest.approx(1, abs=0.01)
    assert compared.trace_ratio.value == pytest.approx(0.25, rel=0.03)
    assert compared.slope.value == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("loss", LOSSES)
def test_sharpness_under_rescaling(loss: str) -> None:
    case = make_case("mlp, relu", loss)
    before = measure.sharpness(case.model, case.loss, case.data)
    first, last = case.model[1], case.model[3]
    factors = torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0, 10.0], dtype=torch.float64)
    with torch.no_grad():
        first.weight.mul_(factors[:, None])
        first.bias.mul_(factors)
        last.weight.div_(factors)
    after = measure.sharpness(case.model, case.loss, case.data)
    assert after.invariant.values[0] == pytest.approx(before.invariant.values[0], rel=1e-8)
    assert after.plain.values[0] > 2 * before.plain.values[0]
    point = case.point.abs()
    dense = torch.linalg.eigvalsh(point[:, None] * case.hessian() * point)[-1]
    assert after.invariant.values[0] == pytest.approx(float(dense), rel=1e-8)
    assert (after.plain.coordinates, after.invariant.coordinates) == ("module", "relative")


class Fused(nn.Module):
    """Torch's fused attention, which has no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.flatten(1).view(-1, 4, 4)).chunk(3, -1)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).mean(1))


def test_fused_attention_has_a_curvature() -> None:
    case = make_case("mlp")
    model = Fused().double()
    top = measure.hessian_eigenvalues(model, case.loss, case.data)
    assert top.converged and top.values[0] > 0
    assert measure.ntk_eigenvalues(model, case.loss, case.data).converged


def test_wrong_use() -> None:
    case = make_case("mlp")
    with pytest.raises(BadInput, match="two examples"):
        measure.noise_and_curvature(case.model, case.loss, (case.inputs[:1], case.targets[:1]))
    with pytest.raises(BadInput, match="between 1 and"):
        measure.noise_and_curvature(case.model, case.loss, case.data, k=0)
