"""An independent plain PyTorch loop: what the packed trainer must equal.

Its own modules, `torch.optim.SGD` and autograd. Of the package it takes only the streams of random numbers: the order
of the examples and the draws of the initial weights. NTK is written out with forward factors: it tests the table too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from noisescale.datasets import Dataset
from noisescale.parameterizations import stream
from noisescale.runs import Run
from noisescale.training.sampling import block_length, index_block


class NTKLinear(nn.Module):
    """z = (σ0/√d) θx + b with θ ~ N(0, 1)."""

    def __init__(self, fan_in: int, fan_out: int, init_scale: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.factor = math.sqrt(init_scale / fan_in)
        self.theta = nn.Parameter(torch.empty(fan_out, fan_in, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(fan_out, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.factor * self.theta, self.bias)


def build(run: Run, dataset: Dataset, dtype: torch.dtype) -> nn.Sequential:
    """The run's network with its initial weights."""
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[run.activation]
    fans = [math.prod(dataset.input_shape)] + [run.width] * run.depth + [dataset.num_classes]
    ntk = run.parameterization == "ntk"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in zip(fans, fans[1:], strict=False):
            layers.append(NTKLinear(fan_in, fan_out, run.init_scale, dtype) if ntk else nn.Linear(fan_in, fan_out))
            layers.append(activation())
    model = nn.Sequential(*layers[:-1]).to(dtype)
    generator = stream(run.seed, "initial weights")
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, NTKLinear):
                layer.theta.copy_(torch.randn(layer.theta.shape, generator=generator, dtype=torch.float64))
            elif isinstance(layer, nn.Linear) and run.parameterization == "standard":
                draw = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)
                layer.weight.copy_(math.sqrt(run.init_scale / layer.in_features) * draw)
                layer.bias.zero_()
    return model


def loss_function(run: Run, dataset: Dataset, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    if run.loss == "cross_entropy":
        return nn.CrossEntropyLoss()

    def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
        if not targets.is_floating_point():
            targets = torch.eye(dataset.num_classes, dtype=dtype)[targets]
        return 0.5 * (outputs - targets.to(dtype)).pow(2).sum(1).mean()

    return half_squared_error


def weights(model: nn.Module) -> list[Tensor]:
    """W and b of each layer, first to last, forward factors absorbed."""
    found: list[Tensor] = []
    for layer in model.modules():
        if isinstance(layer, NTKLinear):
            found += [layer.factor * layer.theta.detach(), layer.bias.detach()]
        elif isinstance(layer, nn.Linear):
            found += [layer.weight.detach(), layer.bias.detach()]
    return found


def train_plain(run: Run, dataset: Dataset, steps: int) -> nn.Sequential:
    """The run's network after some steps."""
    dtype = {"float64": torch.float64, "float32": torch.float32}[run.precision]
    model, loss = build(run, dataset, dtype), loss_function(run, dataset, dtype)
    inputs, targets = dataset.x_train.to(dtype), dataset.y_train
    optimizer = torch.optim.SGD(
        model.parameters(), lr=run.learning_rate, momentum=run.momentum, weight_decay=run.weight_decay
    )
    length = block_length(run.sampling, len(inputs), run.batch_size)
    for step in range(steps):
        block, position = divmod(step, length)
        if position == 0:
            order = index_block(run.sampling, [run.seed], block, len(inputs), run.batch_size)[:, 0]
        optimizer.zero_grad()
        loss(model(inputs[order[position]]), targets[order[position]]).backward()
        optimizer.step()
    return model
