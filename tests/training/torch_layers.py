"""Modules with layers and operations of torch. Inputs have 12 numbers, and there are four classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from module_rows import row
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Body(nn.Module):
    """A linear layer, a computation, and a linear layer."""

    def __init__(self, first: nn.Module, between: Callable[[Tensor], Tensor], last: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.last = first, between, last

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.between(self.first(x)))
        return out


def with_layers(width: int, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(12, width), *layers, nn.Linear(width, 4))


def computed(width: int, between: Callable[[Tensor], Tensor]) -> nn.Module:
    return Body(nn.Linear(12, width), between, nn.Linear(width, 4))


@row("group normalization, PReLU")
def group_norm(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return with_layers(width, nn.GroupNorm(2, width), nn.PReLU())


@row("a bilinear layer", packed=False)
def bilinear(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Bilinear(width, width, width)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x, x)
            return out

    return with_layers(width, Squared())


@row("depthwise, dilated and transposed convolutions")
def convolutions(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 12)), nn.Conv1d(1, width, 3), nn.Conv1d(width, width, 3, groups=width), nn.Tanh(),
        nn.Conv1d(width, width, 3, dilation=2), nn.ConvTranspose1d(width, width, 3, stride=2), nn.AdaptiveAvgPool1d(2),
        nn.Flatten(), nn.Linear(2 * width, 4),
    )  # fmt: skip


@row("torch's attention and transformer layers, without dropout")
def transformer(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(2 * width, 2, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
    return nn.Sequential(nn.Unflatten(1, (4, 3)), nn.Linear(3, 2 * width), layer, nn.Flatten(), nn.Linear(8 * width, 4))


@row("dropout")
def dropping(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 4))


@row("batch normalization and dropout")
def normalizing_and_dropping(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, width), nn.GELU(),
        nn.AlphaDropout(0.1), nn.Linear(width, 4),
    )  # fmt: skip


@row("noise on hidden units from torch's generator")
def noisy(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 0.1 * torch.randn_like(x) if self.training else x

    return nn.Sequential(nn.Linear(12, width), nn.Tanh(), Noise(), nn.Linear(width, 4))


@row("scaled_dot_product_attention")
def dot_products(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    def attend(x: Tensor) -> Tensor:
        values = x.unflatten(1, (2, -1))
        return functional.scaled_dot_product_attention(values, values, values, is_causal=True).flatten(1)

    return computed(width, attend)


@row("an LSTM", packed=False)
def lstm(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(3, width, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x)[0][:, -1]
            return out

    return nn.Sequential(nn.Unflatten(1, (4, 3)), Last(), nn.Linear(width, 4))


@row("sorting, top-k, cumulative sums, einsum")
def sorting(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    def compute(x: Tensor) -> Tensor:
        ordered = x.sort(1).values.cumsum(1)
        best = x.topk(2, 1).values.sum(1, keepdim=True)
        return torch.einsum("bi,bj->bi", ordered, x.tanh()) + best

    return computed(width, compute)


@row("a Fourier transform")
def fourier(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return computed(width, lambda x: torch.fft.fft(x).abs())


@row("assignments to parts of a tensor")
def assigned(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    def compute(x: Tensor) -> Tensor:
        out = x.clone()
        out[:, 0] = x[:, 1].square()
        return out.masked_fill(x > 1.0, 0.5)

    return computed(width, compute)


class Cube(torch.autograd.Function):
    """An operation with a gradient of its own, and without a rule for vmap."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        (x,) = context.saved_tensors  # type: ignore[attr-defined]
        return 3 * x**2 * gradients[0]


@row("an autograd.Function without a rule for vmap", packed=False)
def function(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return computed(width, Cube.apply)


@row("a part in TorchScript")
def scripted_part(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch.jit.script(nn.Sequential(nn.Linear(width, width), nn.Tanh()))
    return with_layers(width, part)


@row("a compiled part")
def compiled_part(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    part: nn.Module = torch.compile(nn.Sequential(nn.Linear(width, width), nn.Tanh()))
    return with_layers(width, part)


@row("torch.utils.checkpoint, reentrant", packed=False)
def reentrant(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    class Recomputed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Sequential(nn.Linear(width, width), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = checkpoint(self.part, x, use_reentrant=True)
            return out

    return with_layers(width, Recomputed())


@row("hooks that change the gradients of a module", packed=False)
def backward_hook(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    module = with_layers(width, nn.Tanh())
    nn.init.zeros_(module[2].weight)  # so that the gradients below are 0 at first
    module[1].register_full_backward_hook(lambda part, inputs, outputs: (0.5 * inputs[0],))
    return module


@row("hooks on tensors inside a pass", packed=False)
def tensor_hook(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    def reverse(x: Tensor) -> Tensor:
        out = x.tanh()
        if out.requires_grad:
            out.register_hook(lambda gradient: -0.1 * gradient)
        return out

    module = computed(width, reverse)
    nn.init.zeros_(module.last.weight)
    return module


@row("a buffer that the first training pass registers")
def registers_in_training(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    class Centered(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and not hasattr(self, "center"):
                self.register_buffer("center", torch.zeros(x.shape[1], dtype=x.dtype))
            return x - self.center if hasattr(self, "center") else x

    return with_layers(width, Centered(), nn.Tanh())


@row("hooks on the gradients of parameters", packed=False)
def parameter_hooks(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    module = with_layers(width, nn.Tanh())
    first, last = module[0].weight, module[2].weight
    first.register_hook(lambda gradient: 0.5 * gradient)

    def clip(parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad.clamp_(-0.01, 0.01)

    last.register_post_accumulate_grad_hook(clip)
    return module
