"""Norms, rotation and effective rates compared with their definitions, and the loss along a line."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from networks import make_case

from noisescale import measure
from noisescale.errors import BadInput
from noisescale.theory import equilibrium, intrinsic_learning_rate


def test_a_step_of_a_scale_invariant_layer() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    g = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    g = g - (g * w).sum() / w.square().sum() * w  # The gradient of a scale-invariant loss is orthogonal to w.
    rate = 0.3
    dynamics = measure.weight_dynamics({"w": w}, {"w": w - rate * g}, {"w": g}, rate).layers["w"]
    assert dynamics.norm_squared == pytest.approx(float(w.square().sum()))
    assert dynamics.effective_learning_rate == pytest.approx(rate / float(w.square().sum()))
    assert abs(dynamics.scale_invariance_defect) < 1e-15
    # In a right-angled triangle, the tangent of the rotation is η‖g‖/‖w‖.
    assert math.tan(dynamics.rotation) == pytest.approx(rate * float(g.norm() / w.norm()), rel=1e-12)


def test_a_tiny_rotation_keeps_its_digits() -> None:
    w, step = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1e-7], dtype=torch.float64)
    dynamics = measure.weight_dynamics({"w": w}, {"w": w + step}, {"w": step}, 1.0)
    assert dynamics.total.rotation == pytest.approx(1e-7, rel=1e-6)


def test_the_total_treats_all_weights_as_one_vector() -> None:
    parts = {name: torch.randn(4, dtype=torch.float64) for name in "ab"}
    after = {name: tensor + 0.1 * torch.randn(4) for name, tensor in parts.items()}
    slopes = {name: torch.randn(4, dtype=torch.float64) for name in "ab"}
    total = measure.weight_dynamics(parts, after, slopes, 0.1).total
    whole = [{"w": torch.cat(list(tensors.values()))} for tensors in (parts, after, slopes)]
    assert total == measure.weight_dynamics(*whole, 0.1).layers["w"] or total.rotation == pytest.approx(
        measure.weight_dynamics(*whole, 0.1).layers["w"].rotation, rel=1e-9
    )
    rates = measure.weight_dynamics(parts, after, slopes, {"a": 0.1, "b": 0.2})
    assert math.isnan(rates.total.effective_learning_rate)
    assert rates.layers["b"].effective_learning_rate == pytest.approx(0.2 / rates.layers["b"].norm_squared)


def test_different_names_are_refused() -> None:
    weights = {"w": torch.ones(2)}
    with pytest.raises(BadInput, match="after"):
        measure.weight_dynamics(weights, {"v": torch.ones(2)}, weights, 0.1)
    with pytest.raises(BadInput, match="gradient"):
        measure.weight_dynamics(weights, weights, {"w": torch.ones(3)}, 0.1)
    with pytest.raises(BadInput, match="learning_rate"):
        measure.weight_dynamics(weights, weights, weights, 0.0)


@pytest.mark.parametrize("network", ["mlp", "convnet, batch"])
def test_the_ends_of_the_line_have_the_losses_of_the_models(network: str) -> None:
    one = make_case(network)
    other = make_case(network)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    line = measure.interpolate(one.model, other.model, one.loss, one.data, [0.0, 0.5, 1.0])
    for place, case in ((0, one), (2, other)):
        with torch.no_grad():
            outputs = case.model(one.inputs)
        assert line.loss[place] == pytest.approx(float(one.loss(outputs, one.targets)), rel=1e-12)
        assert line.accuracy[place] == pytest.approx(float((outputs.argmax(1) == one.targets).double().mean()))
    assert np.isfinite(line.loss).all()
    with pytest.raises(BadInput, match="model_b"):
        measure.interpolate(one.model, make_case("attention").model, one.loss, one.data, [0.0])


def test_momentum_does_not_change_the_effective_rate() -> None:
    weights = {"w": torch.tensor([3.0, 4.0])}
    layer = measure.weight_dynamics(weights, weights, weights, 0.1, momentum=0.9).total
    assert layer.effective_learning_rate == pytest.approx(0.1 / 25)
    assert layer.rate_with_momentum == pytest.approx(0.1 / 0.1 / 25)
    # The closed form of the equilibrium uses the same definition.
    end = equilibrium(0.1, 0.01, 2.0, momentum=0.9)
    at_rest = {"w": torch.tensor([end.norm], dtype=torch.float64)}
    dynamics = measure.weight_dynamics(at_rest, at_rest, at_rest, 0.1, momentum=0.9)
    assert dynamics.layers["w"].effective_learning_rate == pytest.approx(end.effective_learning_rate)


def test_momentum_enters_the_intrinsic_rate() -> None:
    weights = {"w": torch.tensor([3.0, 4.0])}
    assert intrinsic_learning_rate(0.1, 0.01, momentum=0.9) == pytest.approx(0.01)
    # Without decay, a rate that grows as e^(2at) is equivalent to decay with ηλ = a.
    assert intrinsic_learning_rate(0.1, 0.0, rate_growth=0.02) == pytest.approx(0.01)
    for momentum in (-0.1, 1.0):
        with pytest.raises(BadInput, match="momentum"):
            measure.weight_dynamics(weights, weights, weights, 0.1, momentum=momentum)
        with pytest.raises(BadInput, match="momentum"):
            intrinsic_learning_rate(0.1, 0.1, momentum=momentum)
