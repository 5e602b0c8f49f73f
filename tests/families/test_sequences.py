"""Layers for sequences [B, L, C] equal those for [B, C, L] on transposed activations, and train in packs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from noisescale.families import NORMALIZATIONS, Normalization
from noisescale.families.layers import Layers

EXACT = dict(rtol=0, atol=1e-12)
NORMALIZED = [Normalization(kind, groups=3, ghost_size=4) for kind in NORMALIZATIONS if kind != "none"]
every_kind = pytest.mark.parametrize("kind", NORMALIZED, ids=lambda kind: kind.kind)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 + 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_kind
def test_a_normalization_equals_that_of_transposed_activations(kind: Normalization) -> None:
    x = drawn(8, 5, 6)
    outputs = kind.module(6, spatial="sequence").double()(x)
    if kind.kind == "layer":  # a transformer normalizes every position alone
        expected = nn.LayerNorm(6).double()(x.reshape(-1, 6)).view_as(x)
    else:
        expected = kind.module(6, spatial=1).double()(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(outputs, expected, **EXACT)


def network(kind: Normalization) -> nn.Module:
    layers = Layers("relu", kind, scale_invariant=False, spatial="sequence")
    read_out = layers.read_out_of_positions(6, (1,), 3, None)
    return nn.Sequential(layers.linear(6, 6), *layers.after(6), *read_out).double()


@every_kind
def test_a_pack_equals_its_runs_alone(kind: Normalization, packed_step: Callable) -> None:
    torch.manual_seed(0)
    twins = [network(kind) for _ in range(3)]
    module = network(kind).train()
    parameters, buffers = (
        {name: torch.stack([dict(named(twin))[name].detach() for twin in twins]) for name, _ in named(module)}
        for named in (nn.Module.named_parameters, nn.Module.named_buffers)
    )
    x, labels = torch.stack([drawn(8, 5, 6, seed=run) for run in range(3)]), torch.arange(8).expand(3, -1) % 3
    gradients, losses = packed_step(module, parameters, buffers, x, labels)
    for run, twin in enumerate(twins):
        outputs = twin(x[run])
        # The mean over positions, by hand.
        hidden = twin[:-3](x[run]).mean(1)
        torch.testing.assert_close(outputs, twin[-1](hidden), **EXACT)
        loss = nn.functional.cross_entropy(outputs, labels[run])
        torch.testing.assert_close(losses[run], loss.detach(), **EXACT)
        expected = torch.autograd.grad(loss, list(twin.parameters()))
        torch.testing.assert_close([part[run] for part in gradients.values()], list(expected), **EXACT)
