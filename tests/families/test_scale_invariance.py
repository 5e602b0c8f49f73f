"""L(cw) = L(w) and ⟨g, w⟩ = 0 for every weight tensor, up to the ε of the normalizations."""

from __future__ import annotations

import pytest
import torch
from accepted_inputs import CLASSES, SCALE_INVARIANT, inputs_for, shape_for
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families import NORMALIZATIONS, ModelOptions, family_factory, scale_invariance_defects

LABELS = torch.arange(8) % CLASSES
LOSS = nn.CrossEntropyLoss()

# Negligible compared with any variance in float64. Torch refuses 0.
NO_EPSILON = 1e-30


def built(family: str, normalization: str, scale_invariant: bool = True) -> nn.Module:
    ghosts = {"ghost_size": 4} if normalization == "ghost_batch" else {}
    options = ModelOptions(family, normalization=normalization, scale_invariant=scale_invariant, **ghosts)
    torch.manual_seed(3)
    return family_factory(options)(8, shape_for(family), CLASSES)


@pytest.mark.parametrize("scale", [1e-3, 0.3, 7.0])
@pytest.mark.parametrize("normalization", [name for name in NORMALIZATIONS if name != "none"])
@pytest.mark.parametrize("family", SCALE_INVARIANT)
def test_the_loss_depends_only_on_the_directions_of_weights(family: str, normalization: str, scale: float) -> None:
    module = built(family, normalization)
    defects = scale_invariance_defects(module, LOSS, (inputs_for(family), LABELS), epsilons=[NO_EPSILON], scale=scale)
    assert [row.parameter for row in defects] == [*dict(module.named_parameters()), "all"]
    assert max(row.loss_change for row in defects) < 1e-12
    assert max(row.alignment for row in defects) < 1e-12


@pytest.mark.parametrize("family", SCALE_INVARIANT)
def test_the_defects_of_single_tensors_equal_a_direct_computation(family: str) -> None:
    """Compute the defects without the function under test."""
    inputs = inputs_for(family)
    module = built(family, "batch").double().train()
    for layer in module.modules():
        if hasattr(layer, "eps"):
            layer.eps = NO_EPSILON
    loss = LOSS(module(inputs), LABELS)
    loss.backward()
    for tensor in module.parameters():
        assert tensor.grad is not None and tensor.grad.norm() > 1e-6
        assert abs((tensor * tensor.grad).sum()) < 1e-13 * tensor.norm() * tensor.grad.norm() + 1e-15
        with torch.no_grad():
            tensor.mul_(3.0)
            assert abs(LOSS(module(inputs), LABELS) - loss) < 1e-13
            tensor.div_(3.0)


@pytest.mark.parametrize("family", SCALE_INVARIANT)
def test_the_defect_shrinks_in_proportion_to_epsilon(family: str) -> None:
    epsilons, data = (1e-5, 1e-7, 1e-9), (inputs_for(family), LABELS)
    rows = scale_invariance_defects(built(family, "batch"), LOSS, data, epsilons=epsilons)
    worst = [max(max(row.loss_change, row.alignment) for row in rows if row.epsilon == epsilon) for epsilon in epsilons]
    assert 1e-8 < worst[0] < 1e-2
    assert worst[1] == pytest.approx(worst[0] / 100, rel=0.1)
    assert worst[2] == pytest.approx(worst[1] / 100, rel=0.1)


def test_scaling_the_weights_equals_dividing_epsilon(images: Tensor) -> None:
    """L(cw; ε) = L(w; ε/c²), which explains the defect."""

    def loss_at(scale: float, epsilon: float) -> float:
        module = built("convnet", "layer").double()
        with torch.no_grad():
            for tensor in module.parameters():
                tensor.mul_(scale)
        for layer in module.modules():
            if hasattr(layer, "eps"):
                layer.eps = epsilon
        return float(LOSS(module(images), LABELS).detach())

    assert loss_at(3.0, 1e-2) == pytest.approx(loss_at(1.0, 1e-2 / 9), abs=1e-13)
    assert abs(loss_at(3.0, 1e-2) - loss_at(1.0, 1e-2)) > 1e-6


def test_a_network_that_is_not_invariant_has_a_defect_and_does_not_change(images: Tensor) -> None:
    module = built("resnet", "batch", scale_invariant=False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    rows = scale_invariance_defects(module, LOSS, (images, LABELS), epsilons=[NO_EPSILON])
    assert max(row.loss_change for row in rows) > 1e-3
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert {getattr(layer, "eps", 1e-5) for layer in module.modules()} == {1e-5}


def test_models_and_scales_that_cannot_be_measured_are_refused(images: Tensor) -> None:
    with pytest.raises(BadInput, match="normalization layers"):
        scale_invariance_defects(nn.Linear(3, 3), LOSS, (images, LABELS))
    with pytest.raises(BadInput, match="a positive number"):
        scale_invariance_defects(built("mlp", "batch"), LOSS, (images, LABELS), scale=0.0)
