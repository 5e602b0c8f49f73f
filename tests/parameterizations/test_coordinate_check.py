"""Coordinate check: how the change of every layer's activations after a few steps scales with width n.

For an MLP with loss gradient δ = O(1) at the output, on data that do not change with n, to first order in the rate:

- the gradient at hidden units, W_Lᵀδ through random hidden weights, has entries of the size of the read-out's:
  n^−½ where σ² = σ0²/d (standard, ntk, improved_standard), 1/n for mup;
- a layer's own step changes its outputs by c·(gradient there)·‖h‖², with ‖h‖² = O(1) at the input and O(n) above; what
  comes from below, W Δh, is of the size of Δh where Δh is no larger than the own step;
- the output moves by c·δ·‖h‖² from the read-out's own step, and as much from the hidden units' (W_L·Δh adds up over n
  aligned terms of size (n^−½)·(c n^−½) for the first three).

With c = 1: first layer n^−½, later hidden layers n^−½·n = n^½, output n. With c ∝ 1/n where the fan-in grows (ntk,
improved_standard): n^−½ in all hidden layers and n^0 at the output: the hidden activations stand still as n grows.
With mup: n·(1/n) = 1 in the first layer, (1/n)·n = 1 in the later ones, (1/n)·n = 1 at the output: all flat, and they
stay so at rates that are not small.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisescale.families import ModelOptions, family_factory
from noisescale.families.mlp import mlp
from noisescale.parameterizations import WITH_BASE_WIDTH
from noisescale.training import parameterize

WIDTHS = (64, 128, 256, 512)
BASE, SEEDS, STEPS = 32, 12, 5

# The changes are to first order: about 1e-6 of the activations, which leaves nine digits in float64.
SMALL = 1e-6
# At this rate the loss falls to less than half of its initial value in these steps.
LARGE = 0.5

# Different theories differ by ½ in the exponent. Errors from finite widths and twelve seeds are at most 0.13 here, and
# 0.08 for widths from 128 to 1024.
TOLERANCE = 0.15

SLOPES = {
    ("standard", 1, SMALL): (-0.5, 1.0),
    ("standard", 3, SMALL): (-0.5, 0.5, 0.5, 1.0),
    ("ntk", 1, SMALL): (-0.5, 0.0),
    ("ntk", 3, SMALL): (-0.5, -0.5, -0.5, 0.0),
    ("improved_standard", 1, SMALL): (-0.5, 0.0),
    ("improved_standard", 3, SMALL): (-0.5, -0.5, -0.5, 0.0),
    ("mup", 1, SMALL): (0.0, 0.0),
    ("mup", 3, SMALL): (0.0, 0.0, 0.0, 0.0),
    ("mup", 1, LARGE): (0.0, 0.0),
    ("mup", 3, LARGE): (0.0, 0.0, 0.0, 0.0),
}


def network(width: int, depth: int) -> nn.Module:
    return mlp(width, (8,), 4, depth=depth, activation="tanh").double()


def outputs_of_layers(model: nn.Module, x: Tensor) -> list[Tensor]:
    outputs = []
    with torch.no_grad():
        for layer in model.children():
            x = layer(x)
            if isinstance(layer, nn.Linear):
                outputs.append(x)
    return outputs


def log_changes(name: str, depth: int, width: int, rate: float, seed: int) -> list[float]:
    """Return the log of the root mean square change of each layer's activations, over examples and units."""
    model = network(width, depth)
    base = network(BASE, depth) if name in WITH_BASE_WIDTH else None
    optimizer = torch.optim.SGD(parameterize(model, network(width + 1, depth), name, rate, base=base, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 8, generator=generator, dtype=torch.float64)
    y = torch.randint(4, (16,), generator=generator)
    before = outputs_of_layers(model, x)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    after = outputs_of_layers(model, x)
    return [float((new - old).square().mean().log() / 2) for new, old in zip(after, before, strict=True)]


@pytest.mark.parametrize(("name", "depth", "rate"), SLOPES)
def test_activations_change_with_width_as_the_theory_says(name: str, depth: int, rate: float) -> None:
    means = [
        np.mean([log_changes(name, depth, width, rate, seed) for seed in range(SEEDS)], axis=0) for width in WIDTHS
    ]
    slopes = np.polyfit(np.log(WIDTHS), np.array(means), 1)[0]
    assert slopes == pytest.approx(np.array(SLOPES[name, depth, rate]), abs=TOLERANCE)


# For convolutional networks. ReLU and pooling do not change the exponents. There are few channels, so the errors from
# finite widths are larger.
CONVOLUTIONS = {"ntk": (-0.5, -0.5, 0.0), "mup": (0.0, 0.0, 0.0), "standard": (-0.5, 0.5, 1.0)}


def changes_of_a_convnet(name: str, width: int, seed: int) -> list[float]:
    def build(channels: int) -> nn.Module:
        return family_factory(ModelOptions("convnet", depth=2))(channels, (1, 4, 4), 4).double()

    model, base = build(width), build(8) if name in WITH_BASE_WIDTH else None
    optimizer = torch.optim.SGD(parameterize(model, build(width + 2), name, SMALL, base=base, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(16, 1, 4, 4, generator=generator).double(), torch.randint(4, (16,), generator=generator)
    seen: list[Tensor] = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output.detach()))
    model(x)
    before = seen[:]
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    seen.clear()
    model(x)
    return [float((new - old).square().mean().log() / 2) for new, old in zip(seen, before, strict=True)]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_activations_of_a_convnet_change_with_width_as_the_theory_says(name: str) -> None:
    widths = (32, 64, 128)
    means = [np.mean([changes_of_a_convnet(name, width, seed) for seed in range(8)], axis=0) for width in widths]
    slopes = np.polyfit(np.log(widths), np.array(means), 1)[0]
    assert slopes == pytest.approx(np.array(CONVOLUTIONS[name]), abs=0.2)


# The change of every layer's pre-activations after five steps of Adam, in float32, for small to large rates.
ADAM_WIDTHS, ADAM_BASE, ADAM_SEEDS = (128, 256, 512, 1024, 2048), 128, 4


def changes_under_adam(name: str, width: int, rate: float, seed: int) -> list[float]:
    def build(units: int) -> nn.Module:
        return mlp(units, (8,), 4, depth=3, activation="relu")

    model, base = build(width), build(ADAM_BASE) if name in WITH_BASE_WIDTH else None
    optimizer = parameterize(model, build(width + 1), name, rate, base=base, seed=seed, optimizer="adamw").build()
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(16, 8, generator=generator), torch.randint(4, (16,), generator=generator)
    before = outputs_of_layers(model, x)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return [
        float((new - old).square().mean().log() / 2)
        for new, old in zip(outputs_of_layers(model, x), before, strict=True)
    ]


def exponents_under_adam(name: str, rate: float) -> np.ndarray:
    means = [
        np.mean([changes_under_adam(name, width, rate, seed) for seed in range(ADAM_SEEDS)], axis=0)
        for width in ADAM_WIDTHS
    ]
    slopes: np.ndarray = np.polyfit(np.log(ADAM_WIDTHS), np.array(means), 1)[0]
    return slopes


@pytest.mark.parametrize("rate", [1e-4, pytest.param(1e-3, marks=pytest.mark.full), 1e-2])
def test_under_adam_and_mup_activations_change_equally_at_every_width(rate: float) -> None:
    assert exponents_under_adam("mup", rate) == pytest.approx(np.zeros(4), abs=TOLERANCE)


@pytest.mark.parametrize("rate", [pytest.param(1e-4, marks=pytest.mark.full), 1e-2])
def test_under_adam_the_standard_parameterization_fails_the_same_check(rate: float) -> None:
    assert np.abs(exponents_under_adam("standard", rate)).max() > 0.5
