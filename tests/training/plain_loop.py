"""An independent plain PyTorch loop: what the packed trainer must equal.

Its own modules, `torch.optim.SGD` and autograd. Of the package it takes only the streams of random numbers: the order
of the examples and the draws of the initial weights. Parameterizations are written out with forward factors: it tests
their tables too.
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


class Scaled(nn.Module):
    """z = m θx + m' β with θ ~ N(0, std²) and β = 0: one rate for all."""

    def __init__(self, fan_in: int, fan_out: int, factor: float, bias_factor: float, std: float) -> None:
        super().__init__()
        self.factor, self.bias_factor, self.std = factor, bias_factor, std
        self.theta = nn.Parameter(torch.empty(fan_out, fan_in))
        self.beta = nn.Parameter(torch.zeros(fan_out))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.factor * self.theta, self.bias_factor * self.beta)


def scaled(run: Run, fan_in: int, fan_out: int, is_first: bool, is_last: bool) -> Scaled:
    """The layer with its forward factors, as the papers write them."""
    deviation = math.sqrt(run.init_scale / fan_in)
    growth = run.width / (run.base_width or run.width)
    from_below = 1.0 if is_first else growth
    outwards = 1.0 if is_last else growth
    m, m_bias, std = {
        "standard": (1.0, 1.0, deviation),
        "ntk": (deviation, 1.0, 1.0),
        "improved_standard": (from_below**-0.5, 1.0, deviation * from_below**0.5),
        # Yang, Hu 2021, table 1: a = −½, 0, ½ and b = ½ (the fan-in of the first layer does not grow).
        "mup": ((outwards / from_below) ** 0.5, outwards**0.5, deviation * (from_below / growth) ** 0.5),
    }[run.parameterization]
    return Scaled(fan_in, fan_out, m, m_bias, std)


def build(run: Run, dataset: Dataset, dtype: torch.dtype) -> nn.Sequential:
    """The run's network with its initial weights."""
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[run.activation]
    fans = [math.prod(dataset.input_shape)] + [run.width] * run.depth + [dataset.num_classes]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        layers: list[nn.Module] = [nn.Flatten()]
        for place, (fan_in, fan_out) in enumerate(zip(fans, fans[1:], strict=False)):
            if run.parameterization == "own":
                layers.append(nn.Linear(fan_in, fan_out))
            else:
                layers.append(scaled(run, fan_in, fan_out, place == 0, place == run.depth))
            layers.append(activation())
    model = nn.Sequential(*layers[:-1]).to(dtype)
    generator = stream(run.seed, "initial weights")
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, Scaled):
                draw = torch.randn(layer.theta.shape, generator=generator, dtype=torch.float64)
                layer.theta.copy_(layer.std * draw)
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
        if isinstance(layer, Scaled):
            found += [layer.factor * layer.theta.detach(), layer.bias_factor * layer.beta.detach()]
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
