"""An independent plain PyTorch loop, whose weights the packed trainer must reproduce.

The loop uses separate modules (for MLPs), `torch.optim` and autograd. It takes only a few things from the package: the
random numbers for the order of examples and for initial weights, the values of schedules, and the unmodified modules of
other families. Parameterizations are written out with forward factors, so their tables are tested too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrize

from noisescale.datasets import Dataset
from noisescale.families import ModelOptions, family_factory
from noisescale.parameterizations import stream
from noisescale.runs import Run
from noisescale.training.sampling import FRESH_BLOCK, index_block
from noisescale.training.schedules import parse_schedule


class Scaled(nn.Module):
    """A layer z = m θx + m' β with θ ~ N(0, std²) and β = 0, in which all parameters have the same rate."""

    def __init__(self, fan_in: int, fan_out: int, factor: float, bias_factor: float, std: float) -> None:
        super().__init__()
        self.factor, self.bias_factor, self.std = factor, bias_factor, std
        self.theta = nn.Parameter(torch.empty(fan_out, fan_in))
        self.beta = nn.Parameter(torch.zeros(fan_out))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.factor * self.theta, self.bias_factor * self.beta)


def factors(run: Run, fan_in: int, is_first: bool, is_last: bool) -> tuple[float, float, float]:
    """Return the forward factors of weight and bias and the weight's initial standard deviation, as in the papers."""
    deviation = math.sqrt(run.init_scale / fan_in)
    growth = run.width / (run.base_width or run.width)
    from_below = 1.0 if is_first else growth
    outwards = 1.0 if is_last else growth
    return {
        "standard": (1.0, 1.0, deviation),
        "ntk": (deviation, 1.0, 1.0),
        "improved_standard": (from_below**-0.5, 1.0, deviation * from_below**0.5),
        # Yang, Hu 2021, table 1: a = −½, 0, ½ and b = ½. The fan-in of the first layer does not grow.
        "mup": ((outwards / from_below) ** 0.5, outwards**0.5, deviation * (from_below / growth) ** 0.5),
    }[run.parameterization]


def build(run: Run, dataset: Dataset, dtype: torch.dtype) -> nn.Module:
    """Build the run's network with its initial weights: a separate MLP, or the module of another family."""
    if run.family == "mlp" and run.normalization == "none":
        return _plain_mlp(run, dataset, dtype)
    return _scaled_family(run, dataset, dtype)


class _Times(nn.Module):
    """Computes W = mθ for a tensor of any module."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, theta: Tensor) -> Tensor:
        return self.factor * theta


def _scaled_family(run: Run, dataset: Dataset, dtype: torch.dtype) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        model = family_factory(ModelOptions.of_run(run))(run.width, dataset.input_shape, dataset.num_classes)
    model = model.to(dtype)
    if run.parameterization == "own":
        return model
    maps = [part for part in model.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    generator, growth = stream(run.seed, "initial weights"), run.width / (run.base_width or run.width)
    with torch.no_grad():
        for place, layer in enumerate(maps):
            m, m_bias, std = factors(run, layer.weight[0].numel(), place == 0, place == len(maps) - 1)
            draw = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)
            layer.weight.copy_(std * draw)
            _scale(layer, "weight", m)
            if layer.bias is not None:
                layer.bias.zero_()
                _scale(layer, "bias", m_bias)
        for part in model.modules():
            # Gains and shifts of a normalization get forward factors. The products still start at 1 and 0.
            if isinstance(part, _NormBase | nn.LayerNorm | nn.GroupNorm) and run.parameterization == "mup":
                for name in ("weight", "bias"):
                    if getattr(part, name) is not None:
                        getattr(part, name).div_(growth**0.5)
                        _scale(part, name, growth**0.5)
    return model


def _scale(module: nn.Module, name: str, factor: float) -> None:
    if factor != 1.0:
        parametrize.register_parametrization(module, name, _Times(factor))


def _plain_mlp(run: Run, dataset: Dataset, dtype: torch.dtype) -> nn.Sequential:
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[run.activation]
    fans = [math.prod(dataset.input_shape)] + [run.width] * run.depth + [dataset.num_classes]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        layers: list[nn.Module] = [nn.Flatten()]
        for place, (fan_in, fan_out) in enumerate(zip(fans, fans[1:], strict=False)):
            if run.parameterization == "own":
                layers.append(nn.Linear(fan_in, fan_out))
            else:
                layers.append(Scaled(fan_in, fan_out, *factors(run, fan_in, place == 0, place == run.depth)))
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
    """Return every trained tensor W = mθ, in the order of `named_parameters()`."""
    if not any(isinstance(layer, Scaled) for layer in model.modules()):
        return [tensor for module in model.modules() for tensor in _direct_tensors(module)]
    tensors: list[Tensor] = []
    for layer in model.modules():
        if isinstance(layer, Scaled):
            tensors += [layer.factor * layer.theta.detach(), layer.bias_factor * layer.beta.detach()]
    return tensors


def _direct_tensors(module: nn.Module) -> list[Tensor]:
    if isinstance(module, parametrize.ParametrizationList):
        return []
    names = [name for name, _ in module.named_parameters(recurse=False)]
    scaled = list(module.parametrizations) if parametrize.is_parametrized(module) else []
    order = [name for name in ("weight", "bias") if name in names or name in scaled]
    return [getattr(module, name).detach() for name in (*order, *(name for name in names if name not in order))]


def batches(run: Run, steps: int, examples: int) -> Iterator[tuple[float, Tensor]]:
    """Yield, for every step, the share of the budget that is done and the indices of the examples."""
    schedule = parse_schedule(run.schedule)
    shuffled = run.sampling == "epoch_shuffle"
    block, left, order, size = -1, 0, torch.empty(0, dtype=torch.int64), 0
    for step in range(steps):
        next_size = run.batch_size
        if schedule.of == "batch_size":
            factor = schedule.rate_factor(step / run.steps)
            bound = schedule.largest_batch or examples
            next_size = bound if factor == 0 else min(round(run.batch_size / factor), bound)
        fits = left >= next_size if shuffled else left > 0 and next_size == size
        if not fits:
            block += 1
            order = index_block(run.sampling, [run.seed], block, examples, next_size)[0]
            left = examples if shuffled else FRESH_BLOCK
            taken = 0
        size = next_size
        yield step / run.steps, order[taken : taken + size]
        taken, left = taken + size, left - (size if shuffled else 1)


def forward_factors(model: nn.Module) -> dict[nn.Parameter, float]:
    """Return the factor m in W = mθ of every trained tensor."""
    factors: dict[nn.Parameter, float] = {}
    for module in model.modules():
        if isinstance(module, Scaled):
            factors |= {module.theta: module.factor, module.beta: module.bias_factor}
        elif isinstance(module, parametrize.ParametrizationList):
            factors[module.original] = module[0].factor
    return {parameter: factors.get(parameter, 1.0) for parameter in model.parameters()}


def no_decay(run: Run, model: nn.Module) -> set[nn.Parameter]:
    """Return the tensors without weight decay: biases and shifts, and gains of normalization layers."""
    names, exempt = run.no_decay.split(), set()
    for module in model.modules():
        gains = isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm)
        tensors = {"weight": getattr(module, "weight", None), "bias": getattr(module, "bias", None)}
        if isinstance(module, Scaled):
            tensors = {"weight": module.theta, "bias": module.beta}
        if "biases" in names and isinstance(tensors["bias"], nn.Parameter):
            exempt.add(tensors["bias"])
        if "gains" in names and gains and isinstance(tensors["weight"], nn.Parameter):
            exempt.add(tensors["weight"])
    return exempt


def decay_factors(run: Run, model: nn.Module) -> dict[nn.Parameter, float]:
    """Return the factor of λ for θ. For θ, whose rate is the base rate, plain decay is the "independent" decay."""
    skipped = no_decay(run, model)
    rate = {"sgd": 2, "adamw": 1}[run.optimizer]  # The rate of W is ε m² for SGD and ε m for Adam.
    return {
        parameter: 0.0 if parameter in skipped else m**rate if run.decay == "decoupled" else 1.0
        for parameter, m in forward_factors(model).items()
    }


def build_optimizer(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of θ, with one parameter group for each tensor."""
    groups = [{"params": [parameter]} for parameter in model.parameters()]
    if run.optimizer == "adamw":
        assert run.beta1 is not None and run.beta2 is not None and run.epsilon is not None
        return torch.optim.AdamW(groups, lr=run.learning_rate, betas=(run.beta1, run.beta2), eps=run.epsilon)
    nesterov = run.nesterov and run.momentum > 0
    return torch.optim.SGD(groups, lr=run.learning_rate, momentum=run.momentum, nesterov=nesterov)


def train_plain(run: Run, dataset: Dataset, steps: int) -> nn.Module:
    """Train the run's network for some steps with `torch.optim`, and return it."""
    dtype = {"float64": torch.float64, "float32": torch.float32}[run.precision]
    model, loss = build(run, dataset, dtype), loss_function(run, dataset, dtype)
    inputs, targets, schedule = dataset.x_train.to(dtype), dataset.y_train, parse_schedule(run.schedule)
    optimizer, decays = build_optimizer(run, model), decay_factors(run, model)
    in_torch = run.decay == "coupled" or run.optimizer == "adamw"
    for progress, index in batches(run, steps, len(inputs)):
        factor = schedule.warmed(progress, run.steps)
        if schedule.of == "batch_size":
            factor = schedule.rate_factor(progress) * len(index) / run.batch_size
        decay = run.weight_decay * schedule.decay_factor(progress)
        for group in optimizer.param_groups:
            group["lr"] = run.learning_rate * factor
            group["weight_decay"] = decay * decays[group["params"][0]] if in_torch else 0.0
        optimizer.zero_grad()
        loss(model(inputs[index]), targets[index]).backward()
        if run.clip_norm is not None:
            # The norm is that of the gradient in θ, the coordinates of the parameterization.
            nn.utils.clip_grad_norm_(model.parameters(), run.clip_norm)
        if not in_torch:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1 - run.learning_rate * factor * decay * decays[parameter])
        optimizer.step()
    return model
