"""Properties of every family with every normalization: shapes, names, determinism, and training in packs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accepted_inputs import CLASSES, SCALE_INVARIANT, WITH_NORMALIZATION, inputs_for, shape_for, with_depth
from torch import nn

from noisescale.families import FAMILIES, NORMALIZATIONS, FixedReadOut, ModelOptions, family_factory
from noisescale.parameterizations import build_table, describe_parameters

CASES = [
    with_depth(
        ModelOptions(
            family,
            normalization=normalization,
            ghost_size=4 if normalization == "ghost_batch" else None,
            scale_invariant=scale_invariant,
            heads=2 if "heads" in FAMILIES[family].takes else None,
        )
    )
    for family in FAMILIES
    for normalization in (NORMALIZATIONS if family in WITH_NORMALIZATION else ["none"])
    for scale_invariant in ([False, True] if family in SCALE_INVARIANT else [False])
    if normalization != "none" or not scale_invariant
]


def name_of(options: ModelOptions) -> str:
    return f"{options.family}-{options.normalization}" + ("-invariant" if options.scale_invariant else "")


def built(options: ModelOptions, width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return family_factory(options)(width, shape_for(options.family), CLASSES)


every_case = pytest.mark.parametrize("options", CASES, ids=name_of)


@every_case
def test_shapes_and_determinism(options: ModelOptions) -> None:
    inputs = inputs_for(options.family)
    module, rebuilt = built(options).double(), built(options).double()
    for training in (True, False):
        outputs = module.train(training)(inputs)
        assert outputs.shape == (8, CLASSES)
        assert torch.equal(outputs, rebuilt.train(training)(inputs))


@every_case
def test_parameters_have_the_same_names_at_every_width_and_the_read_out_grows(options: ModelOptions) -> None:
    module, wider = built(options), built(options, 6)
    described = describe_parameters(module, wider)
    assert [key for key, _ in module.named_buffers()] == [key for key, _ in wider.named_buffers()]
    growing = [parameter.name for parameter in described if parameter.grows]
    # A read-out may have a bias, the last parameter.
    last = described[-1] if described[-1].role == "weight" else described[-2]
    assert growing[-1] == last.name
    for name in ("standard", "ntk", "own"):
        assert len(build_table(name, described)) == len(described)


@every_case
def test_a_pack_by_vmap_equals_each_run_by_autograd(options: ModelOptions, packed_step: Callable) -> None:
    runs = 3
    module = built(options).double().train()
    factory = family_factory(options)
    alone = [factory(4, shape_for(options.family), CLASSES).double() for _ in range(runs)]
    parameters = {
        name: torch.stack([dict(m.named_parameters())[name].detach() for m in alone])
        for name in dict(module.named_parameters())
    }
    buffers = {
        name: torch.stack([dict(m.named_buffers())[name] for m in alone]) for name in dict(module.named_buffers())
    }
    inputs = torch.stack([inputs_for(options.family) + 0.1 * run for run in range(runs)])
    labels = torch.arange(8).expand(runs, -1) % CLASSES
    gradients, losses = packed_step(module, parameters, buffers, inputs, labels)
    for run, twin in enumerate(alone):
        loss = nn.functional.cross_entropy(twin(inputs[run]), labels[run])
        expected = dict(zip(parameters, torch.autograd.grad(loss, list(twin.parameters())), strict=True))
        torch.testing.assert_close(losses[run], loss.detach(), rtol=0, atol=1e-11)
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name][run], gradient, rtol=1e-10, atol=1e-10)
        for name, tensor in twin.named_buffers():
            torch.testing.assert_close(buffers[name][run], tensor, rtol=0, atol=1e-11)


@pytest.mark.parametrize("options", [case for case in CASES if case.family in WITH_NORMALIZATION], ids=name_of)
def test_which_layers_have_biases_gains_and_a_trained_read_out(options: ModelOptions) -> None:
    names = [name for name, _ in built(options).named_parameters()]
    tensors = dict(built(options).named_parameters())
    fixed = [module for module in built(options).modules() if isinstance(module, FixedReadOut)]
    if options.scale_invariant:
        assert all(tensors[name].dim() > 1 for name in names), "weights only"
        assert len(fixed) == 1
        return
    assert not fixed
    weights = [name for name in names if tensors[name].dim() > 1]
    has_bias = [f"{name.removesuffix('weight')}bias" in names for name in weights]
    assert has_bias == [options.normalization == "none"] * (len(weights) - 1) + [True]


def test_a_fixed_read_out_is_equal_in_every_run_and_has_unit_size() -> None:
    torch.manual_seed(1)
    read_out = FixedReadOut(400, 10)
    torch.manual_seed(2)
    assert torch.equal(read_out.weight, FixedReadOut(400, 10).weight)
    assert not list(read_out.parameters())
    assert "weight" in read_out.state_dict()
    assert read_out.weight.var().item() * 400 == pytest.approx(1, abs=0.1)
    assert read_out.double()(torch.ones(2, 400, dtype=torch.float64)).shape == (2, 10)
