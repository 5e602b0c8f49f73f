"""Small networks of every kind, their losses and data, and their dense Jacobians, gradients and Hessians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from noisescale.families import ModelOptions, family_factory

Loss = Callable[[Tensor, Tensor], Tensor]
EXAMPLES, OUTPUTS = 20, 3


class Attention(nn.Module):
    """A block of attention over four tokens."""

    def __init__(self, width: int, tokens: int, inputs: int) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, OUTPUTS)
        self.tokens, self.inputs = tokens, inputs

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x.view(len(x), self.tokens, self.inputs))
        q, k, v = self.qkv(self.norm(h)).chunk(3, -1)
        weights = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1)
        return self.out((h + weights @ v).mean(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: family_factory(ModelOptions("mlp", depth=2, activation="tanh"))(5, (1, 4, 4), OUTPUTS),
    "mlp, relu": lambda: family_factory(ModelOptions("mlp", depth=1))(6, (1, 4, 4), OUTPUTS),
    "convnet": lambda: family_factory(ModelOptions("convnet", depth=2))(3, (1, 4, 4), OUTPUTS),
    "convnet, batch": lambda: family_factory(ModelOptions("convnet", depth=2, normalization="batch"))(
        3, (1, 4, 4), OUTPUTS
    ),
    "resnet, group": lambda: family_factory(ModelOptions("resnet", blocks=(1,), normalization="group", groups=2))(
        4, (1, 4, 4), OUTPUTS
    ),
    "attention": lambda: Attention(4, 4, 4),
}


def half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    rows = nn.functional.one_hot(targets, OUTPUTS).to(outputs)
    return 0.5 * (outputs - rows).square().sum(-1).mean()


LOSSES: dict[str, Loss] = {"cross_entropy": nn.CrossEntropyLoss(), "mse": half_square}


@dataclass(frozen=True)
class Case:
    """A network, its loss and data, and its dense matrices."""

    model: nn.Module
    loss: Loss
    inputs: Tensor
    targets: Tensor

    @property
    def data(self) -> tuple[Tensor, Tensor]:
        return self.inputs, self.targets

    def _at(self, vector: Tensor) -> dict[str, Tensor]:
        named = dict(self.model.named_parameters())
        parts = vector.split([tensor.numel() for tensor in named.values()])
        return {name: part.view(tensor.shape) for (name, tensor), part in zip(named.items(), parts, strict=True)}

    @property
    def point(self) -> Tensor:
        return torch.cat([tensor.detach().flatten() for tensor in self.model.parameters()])

    def outputs(self, vector: Tensor) -> Tensor:
        return functional_call(self.model, self._at(vector), (self.inputs,))

    def hessian(self) -> Tensor:
        return torch.autograd.functional.hessian(lambda v: self.loss(self.outputs(v), self.targets), self.point)

    def jacobian(self) -> Tensor:
        """Return the Jacobian of the outputs, shape [n·K, P]."""
        return torch.autograd.functional.jacobian(self.outputs, self.point).flatten(0, 1)

    def gradients(self) -> Tensor:
        """Return the per-example gradients, shape [n, P], with one backward pass for each example."""
        rows = []
        for place in range(len(self.inputs)):
            part = slice(place, place + 1)
            outputs = functional_call(self.model, dict(self.model.named_parameters()), (self.inputs[part],))
            gradients = torch.autograd.grad(self.loss(outputs, self.targets[part]), list(self.model.parameters()))
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
        return torch.stack(rows)


def make_case(network: str = "mlp", loss: str = "cross_entropy", dtype: torch.dtype = torch.float64) -> Case:
    """Build a network at a generic point, in evaluation mode, with running statistics of its data."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = NETWORKS[network]().to(dtype)
        inputs, targets = torch.randn(EXAMPLES, 1, 4, 4, dtype=dtype), torch.randint(OUTPUTS, (EXAMPLES,))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
            model.train()(inputs)
    return Case(model.eval(), LOSSES[loss], inputs, targets)
