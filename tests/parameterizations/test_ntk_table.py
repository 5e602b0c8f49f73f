"""NTK as a table on an unmodified module equals NTK written out with explicit forward factors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from noisescale.families import mlp
from noisescale.parameterizations import parameterize

# Float64 over 50 steps: both are the same sums in another order (2e-15 was measured).
TOLERANCE = 1e-12
STEPS = 50


class NTKLinear(nn.Module):
    """z = (σ0/√d) θx + b."""

    def __init__(self, fan_in: int, fan_out: int, init_scale: float) -> None:
        super().__init__()
        self.factor = math.sqrt(init_scale / fan_in)
        self.theta = nn.Parameter(torch.zeros(fan_out, fan_in, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(fan_out, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.factor * self.theta, self.bias)


@pytest.mark.parametrize("init_scale", [2.0, 0.7])
@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_the_table_equals_explicit_forward_factors(
    init_scale: float, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    model = mlp(12, (6,), 3, depth=2, activation="tanh").double()
    reference = mlp(13, (6,), 3, depth=2, activation="tanh")
    groups = parameterize(
        model, reference, "ntk", 0.3, momentum=momentum, weight_decay=weight_decay, init_scale=init_scale
    )
    fans = (6, 12, 12, 3)
    explicit = [NTKLinear(fan_in, fan_out, init_scale) for fan_in, fan_out in zip(fans, fans[1:], strict=False)]
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for ours, theirs in zip(explicit, linear, strict=True):
            ours.theta.copy_(theirs.weight / ours.factor)
    written_out = nn.Sequential(explicit[0], nn.Tanh(), explicit[1], nn.Tanh(), explicit[2])
    one = torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov)
    other = torch.optim.SGD(
        written_out.parameters(), lr=0.3, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
    )
    generator = torch.Generator().manual_seed(3)
    start = linear[1].weight.detach().clone()
    for _ in range(STEPS):
        x = torch.randn(8, 6, generator=generator, dtype=torch.float64)
        y = torch.randint(3, (8,), generator=generator)
        for module, optimizer in ((model, one), (written_out, other)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            optimizer.step()
    assert not torch.allclose(start, linear[1].weight, rtol=1e-2)
    for ours, theirs in zip(explicit, linear, strict=True):
        torch.testing.assert_close(ours.factor * ours.theta, theirs.weight, rtol=TOLERANCE, atol=TOLERANCE)
        torch.testing.assert_close(ours.bias, theirs.bias, rtol=TOLERANCE, atol=TOLERANCE)
