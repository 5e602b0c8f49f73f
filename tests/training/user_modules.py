"""Modules as users write them, with layers of many kinds. Inputs have 12 numbers, and there are four classes."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable

import numpy as np
import torch
from module_rows import row
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint


def mlp(width: int, between: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(12, width), between(), nn.Linear(width, width), between(), nn.Linear(width, 4))


@row("linear layers, GELU")
def gelu(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return mlp(width, nn.GELU)


@row("in-place activations")
def in_place_activation(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return mlp(width, lambda: nn.ReLU(inplace=True))


class InPlaceInput(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = mlp(width, nn.Tanh)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x.sub_(0.5).div_(2.0))
        return out


@row("inputs that are changed in place")
def in_place_input(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return InPlaceInput(width)


@row("a bias before batch normalization")
def bias_before_batch_norm(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(12, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Linear(width, 4))


@row("a bias before layer normalization")
def bias_before_layer_norm(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(12, width), nn.LayerNorm(width), nn.Tanh(), nn.Linear(width, 4))


@row("a convolution before instance normalization")
def instance_norm(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    convolution = nn.Conv1d(2, width, 3, padding=1)
    return nn.Sequential(
        nn.Unflatten(1, (2, 6)), convolution, nn.InstanceNorm1d(width), nn.Tanh(), nn.Flatten(), nn.Linear(6 * width, 4)
    )


@row("a convolution in 2-d and pooling")
def convolution(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)),
        nn.Conv2d(1, width, 2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(width, 4),
    )


class Attention(nn.Module):
    """Attention over four positions, with a bias of the keys, which softmax takes out."""

    def __init__(self, width: int, *, keep: bool = False) -> None:
        super().__init__()
        self.inp, self.out = nn.Linear(3, width), nn.Linear(width, 4)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.keep, self.kept = keep, []  # type: ignore[var-annotated]

    def forward(self, x: Tensor) -> Tensor:
        h = self.inp(x.reshape(len(x), 4, 3))
        scores = self.query(h) @ self.key(h).mT / math.sqrt(h.shape[-1])
        weights = scores.softmax(-1)
        if self.keep:
            self.kept = [{"weights": weights}]
        out: Tensor = self.out((weights @ self.value(h)).mean(1))
        return out


@row("attention")
def attention(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Attention(width)


@row("tensors of the forward pass kept in attributes")
def kept(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Attention(width, keep=True)


def keeping_hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    module.last_output = output  # type: ignore[assignment]


@row("forward hooks that keep outputs")
def hooked(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    module = mlp(width, nn.Tanh)
    for part in module:  # type: ignore[attr-defined]
        part.register_forward_hook(keeping_hook)
    return module


class CachedTable(nn.Module):
    """Computes a table of positions at the first pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net, self.table = mlp(width, nn.Tanh), None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.arange(x.shape[-1], dtype=x.dtype).sin()
        out: Tensor = self.net(x + self.table)
        return out


@row("a table that the first pass computes")
def cached(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return CachedTable(width)


class Late(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.first = width, nn.Linear(12, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        if not hasattr(self, "last"):
            self.last = nn.Linear(self.width, 4)
            self.register_buffer("scale", torch.full((self.width,), 0.5))
        out: Tensor = self.last(h * self.scale)
        return out


@row("a layer and a buffer that the first pass registers")
def late(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Late(width)


@row("torch's lazy layers")
def lazy(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyLinear(width), nn.Tanh(), nn.LazyLinear(4))


@row("nn.utils.weight_norm", packed=False)
def old_weight_norm(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = nn.utils.weight_norm(nn.Linear(12, width))
    return nn.Sequential(first, nn.Tanh(), nn.Linear(width, 4))


@row("parametrizations.weight_norm", packed=False)
def weight_norm(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(12, width)), nn.Tanh(), nn.Linear(width, 4))


@row("parametrizations.spectral_norm", packed=False)
def spectral_norm(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(12, width)), nn.Tanh(), nn.Linear(width, 4))


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).mT


@row("a parametrization of one's own")
def symmetric(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    middle = nn.Linear(width, width)
    nn.utils.parametrize.register_parametrization(middle, "weight", Symmetric())
    return nn.Sequential(nn.Linear(12, width), nn.Tanh(), middle, nn.Tanh(), nn.Linear(width, 4))


class Tied(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, width), nn.Linear(width, width), nn.Linear(width, 4)
        self.third = nn.Linear(width, width)
        self.third.weight = self.second.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.third(self.second(self.first(x).tanh()).tanh()).tanh())
        return out


@row("tied weights")
def tied(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Tied(width)


class Checkpointed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(checkpoint(lambda inputs: self.first(inputs).tanh(), x, use_reentrant=False))
        return out


@row("torch.utils.checkpoint", packed=False)
def checkpointed(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Checkpointed(width)


@row("TorchScript", packed=False)
def scripted(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: nn.Module = torch.jit.script(mlp(width, nn.Tanh))
    return module


@row("torch.compile")
def compiled(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    module: nn.Module = torch.compile(mlp(width, nn.Tanh))
    return module


class Branching(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        out: Tensor = self.last(h.relu() if h.sum().item() > 0 else h.tanh())
        return out


@row("branches on a value (.item())", packed=False)
def branching(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Branching(width)


@row("a recurrent layer", packed=False)
def recurrent(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = nn.GRU(3, width, batch_first=True), nn.Linear(width, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.layer(x.reshape(len(x), 4, 3))[0][:, -1])
            return out

    return Recurrent()


@row("initial weights from NumPy's generator")
def from_numpy(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    module = mlp(width, nn.Tanh)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(np.random.normal(0, 0.3, tuple(parameter.shape))))  # noqa: NPY002
    return module


@row("initial weights from Python's generator")
def from_python(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    module = mlp(width, nn.Tanh)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.tensor([random.gauss(0, 0.3) for _ in range(parameter.numel())]).view_as(parameter))
    return module


class Embedded(nn.Module):
    """Looks up the sign of each input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(2, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(functional.gelu(self.table((x > 0).long())).mean(1))
        return out


@row("an embedding")
def embedded(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Embedded(width)


class MovingMean(nn.Module):
    """Replaces a buffer at each pass, and another at each third pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, width), nn.Linear(width, 4)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("reference", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
            self.calls = self.calls + 1
            if int(self.calls) % 3 == 0:
                self.reference.copy_(self.mean)
        out: Tensor = self.last(hidden - self.mean - self.reference)
        return out


@row("buffers that a pass replaces, some only now and then", packed=False)
def moving_mean(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return MovingMean(width)


class RegistersInTraining(nn.Module):
    """Registers a running mean, and a layer with batch normalization, at its first pass in training mode."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        if self.training and not hasattr(self, "mean"):
            self.register_buffer("mean", x.new_zeros(12))
            self.norm = nn.BatchNorm1d(hidden.shape[1], affine=False).to(x)
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        if hasattr(self, "mean"):
            hidden = self.norm(hidden) + (x - self.mean).mean(1, keepdim=True)
        out: Tensor = self.last(hidden)
        return out


@row("buffers and a layer that the first training pass registers")
def registers_in_training(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return RegistersInTraining(width)


class Graph(nn.Module):
    """Averages over the neighbours in a graph, whose matrix is sparse."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("adjacent", (0.5 * (torch.eye(12) + torch.eye(12).roll(1, 0))).to_sparse())
        self.first, self.last = nn.Linear(12, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.first((self.adjacent @ x.T).T).tanh())
        return out


@row("a sparse buffer", packed=False)
def graph(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Graph(width)
