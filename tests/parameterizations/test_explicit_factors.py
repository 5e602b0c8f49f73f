"""The tables of ntk, improved_standard and mup on an unmodified module equal explicit forward factors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families.mlp import mlp
from noisescale.parameterizations import Table, build_table, describe_parameters
from noisescale.training import parameterize

# In float64 over 50 steps, both compute the same sums in another order. The measured difference is 2e-15.
TOLERANCE = 1e-12
STEPS = 50
INPUTS, OUTPUTS, WIDTH, BASE = 6, 3, 24, 8
FANS = (INPUTS, WIDTH, WIDTH, OUTPUTS)
RATIO = WIDTH / BASE

SCALE = 1.5  # σ0²

# For the input, hidden and read-out layer: (m of the weight, m of the bias, variance of θ divided by σ0²). All layers
# have the same rate.
NTK = tuple(((SCALE / fan_in) ** 0.5, 1.0, 1 / SCALE) for fan_in in FANS[:-1])
IMPROVED_STANDARD = (
    (1.0, 1.0, 1 / INPUTS),
    (RATIO**-0.5, 1.0, 1 / BASE),
    (RATIO**-0.5, 1.0, 1 / BASE),
)
# Yang, Hu 2021, table 1, with b = ½ everywhere: a = −½, 0, ½, in units of the base width.
MUP = (
    (RATIO**0.5, RATIO**0.5, 1 / (INPUTS * RATIO)),
    (1.0, RATIO**0.5, 1 / WIDTH),
    (RATIO**-0.5, 1.0, 1 / WIDTH),
)
FACTORS = {"ntk": NTK, "improved_standard": IMPROVED_STANDARD, "mup": MUP}


class Explicit(nn.Module):
    """A layer z = m θx + m' β."""

    def __init__(self, linear: nn.Linear, factor: float, bias_factor: float) -> None:
        super().__init__()
        self.factor, self.bias_factor = factor, bias_factor
        self.theta = nn.Parameter(linear.weight.detach() / factor)
        self.beta = nn.Parameter(linear.bias.detach() / bias_factor)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.factor * self.theta, self.bias_factor * self.beta)


def table(name: str) -> Table:
    return build_table(name, describe_parameters(network(WIDTH), network(BASE), network(BASE)), SCALE)


def network(width: int) -> nn.Module:
    return mlp(width, (INPUTS,), OUTPUTS, depth=2, activation="tanh").double()


@pytest.mark.parametrize(("name", "factors"), FACTORS.items())
@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_the_table_equals_explicit_forward_factors(
    name: str, factors: tuple[tuple[float, float, float], ...], momentum: float, weight_decay: float, nesterov: bool
) -> None:
    model = network(WIDTH)
    groups = parameterize(
        model, network(BASE), name, 0.1, momentum=momentum, weight_decay=weight_decay, init_scale=SCALE
    )
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    layers = [Explicit(layer, *of_layer[:2]) for layer, of_layer in zip(linear, factors, strict=True)]
    written_out = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
    one = torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov)
    other = torch.optim.SGD(
        written_out.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
    )
    generator = torch.Generator().manual_seed(3)
    start = linear[1].weight.detach().clone()
    for _ in range(STEPS):
        x = torch.randn(8, INPUTS, generator=generator, dtype=torch.float64)
        y = torch.randint(OUTPUTS, (8,), generator=generator)
        for module, optimizer in ((model, one), (written_out, other)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            optimizer.step()
    assert not torch.allclose(start, linear[1].weight, rtol=1e-2)
    for scaled, plain in zip(layers, linear, strict=True):
        torch.testing.assert_close(scaled.factor * scaled.theta, plain.weight, rtol=TOLERANCE, atol=TOLERANCE)
        torch.testing.assert_close(scaled.bias_factor * scaled.beta, plain.bias, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "factors"), FACTORS.items())
def test_the_initial_variance_equals_that_of_the_explicit_form(
    name: str, factors: tuple[tuple[float, float, float], ...]
) -> None:
    weights = [row for row in table(name) if row.parameter.role == "weight"]
    for row, (factor, _, variance) in zip(weights, factors, strict=True):
        assert row.init_std == pytest.approx(factor * math.sqrt(SCALE * variance), rel=1e-12)


@pytest.mark.parametrize("name", ["improved_standard", "mup"])
def test_improved_standard_and_mup_equal_standard_at_the_base_width(name: str) -> None:
    models = [network(BASE) for _ in range(2)]
    groups = parameterize(models[0], network(WIDTH), name, 0.3, base=network(BASE), weight_decay=0.1)
    standard = parameterize(models[1], network(WIDTH), "standard", 0.3, weight_decay=0.1)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.3, 0.1)]
    assert [(group["lr"], group["weight_decay"]) for group in standard] == [(0.3, 0.1)]
    for actual, expected in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(actual, expected)


def test_a_base_of_the_same_width_needs_a_reference_of_another_width() -> None:
    with pytest.raises(BadInput, match="must differ from the same model at another width"):
        parameterize(network(BASE), network(BASE), "mup", 0.1)
