"""Modules are copied also if they keep tensors of a forward pass."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from noisescale.errors import BadInput
from noisescale.families import copy_module


class Keeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.kept: list[dict[str, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.kept = [{"hidden": self.layer(x)}]
        return self.kept[0]["hidden"]


def test_kept_tensors_are_copied_without_their_graph() -> None:
    module, x = Keeps(), torch.randn(2, 3)
    module(x)
    copied = copy_module(module)
    assert isinstance(copied, Keeps)
    assert torch.equal(copied.kept[0]["hidden"], module.kept[0]["hidden"])
    assert not copied.kept[0]["hidden"].requires_grad and copied.layer.weight.requires_grad
    assert copied.layer.weight is not module.layer.weight


def test_tensors_that_a_vectorized_pass_left_behind_do_not_prevent_a_copy() -> None:
    module = Keeps()
    parameters = {name: torch.stack([tensor.detach()] * 2) for name, tensor in module.named_parameters()}
    vmap(lambda p, x: functional_call(module, (p,), (x,)))(parameters, torch.randn(2, 5, 3))
    copied, x = copy_module(module), torch.randn(2, 3)
    assert torch.equal(copied(x), module(x))


def test_what_cannot_be_copied_is_refused() -> None:
    module = nn.Linear(2, 2)
    module.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(BadInput, match=r"copy.deepcopy can copy. Got: TypeError"):
        copy_module(module)
