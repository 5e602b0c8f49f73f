"""Every family with every normalization, and a pack of runs that `torch.func` computes, as in a kernel."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

# The tests of this folder import its helper module.
sys.path.insert(0, str(Path(__file__).parent))

Tensors = dict[str, Tensor]
PackedStep = Callable[[nn.Module, Tensors, Tensors, Tensor, Tensor], tuple[Tensors, Tensor]]


@pytest.fixture(scope="session")
def packed_step() -> PackedStep:
    """Return gradients and losses of R runs. The buffers [R, …] are an argument and change in place."""

    def step(module: nn.Module, parameters: Tensors, buffers: Tensors, inputs: Tensor, labels: Tensor) -> tuple:
        def loss(parameters: Tensors, buffers: Tensors, inputs: Tensor, labels: Tensor) -> Tensor:
            return nn.functional.cross_entropy(functional_call(module, (parameters, buffers), (inputs,)), labels)

        with sdpa_kernel(SDPBackend.MATH):
            return vmap(grad_and_value(loss))(parameters, buffers, inputs, labels)

    return step


@pytest.fixture
def images() -> Tensor:
    return torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
