"""Modules whose passes change weights or buffers, or leave weights out. Inputs have 12 numbers, classes are four."""

from __future__ import annotations

import torch
from module_rows import row
from torch import Tensor, nn


class Changing(nn.Module):
    """A network with one hidden layer. Subclasses change something in their passes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, width), nn.Linear(width, 4)
        self.begin(width)

    def begin(self, width: int) -> None:
        pass

    def change(self, hidden: Tensor) -> Tensor:
        return hidden

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.change(self.first(x).tanh()))
        return out


class Shrinking(Changing):
    def change(self, hidden: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.last.weight.mul_(0.95)
        return hidden


@row("weights that a pass changes in place")
def shrinking(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Shrinking(width)


class MaxNorm(Changing):
    """Bounds the norm of each row, which the initial weights do not reach, as the layers of EEGNet do."""

    def change(self, hidden: Tensor) -> Tensor:
        self.last.weight.data = torch.renorm(self.last.weight.data, p=2, dim=0, maxnorm=0.9)
        return hidden


@row("weights that a pass replaces (weight.data = …)", packed=False)
def max_norm(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return MaxNorm(width)


class RunningMaximum(Changing):
    """Divides by the largest activation so far, which few batches exceed."""

    def begin(self, width: int) -> None:
        self.register_buffer("largest", torch.full((), 0.9))

    def change(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.largest = torch.maximum(self.largest, hidden.detach().abs().max())
        return hidden / self.largest


@row("a running maximum, which the first pass leaves as it is")
def running_maximum(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return RunningMaximum(width)


class Teacher(Changing):
    """Holds a moving average of its first layer, and adds the average's output."""

    def begin(self, width: int) -> None:
        self.teacher = nn.Linear(12, width)
        self.teacher.load_state_dict(self.first.state_dict())
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            for average, weight in zip(self.teacher.parameters(), self.first.parameters(), strict=True):
                average.data.mul_(0.9).add_(weight.data, alpha=0.1)
        with torch.no_grad():
            target = self.teacher(x).tanh()
        out: Tensor = self.last(self.first(x).tanh() + target)
        return out


@row("a moving average of weights (a teacher)", packed=False)
def teacher(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Teacher(width)


class FrozenTeacher(Teacher):
    def begin(self, width: int) -> None:
        super().begin(width)
        self.teacher.requires_grad_(False)


@row("a moving average of weights in frozen parameters", packed=False)
def frozen_teacher(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return FrozenTeacher(width)


class FrozenBackbone(Changing):
    """Trains a new read-out on the features of a frozen layer with batch normalization."""

    def begin(self, width: int) -> None:
        self.norm = nn.BatchNorm1d(width)
        self.first.requires_grad_(False)
        self.norm.weight.requires_grad_(False)

    def change(self, hidden: Tensor) -> Tensor:
        return self.norm(hidden)


@row("a frozen backbone with a new head (`requires_grad = False`)")
def frozen_backbone(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return FrozenBackbone(width)


class Filter(Changing):
    """Multiplies the spectrum by complex numbers, which a buffer holds."""

    def begin(self, width: int) -> None:
        self.register_buffer("response", torch.polar(torch.ones(width), torch.arange(float(width))))

    def change(self, hidden: Tensor) -> Tensor:
        return torch.fft.ifft(torch.fft.fft(hidden) * self.response).real


@row("a complex buffer")
def complex_filter(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Filter(width)


class SparseEmbedding(Changing):
    def begin(self, width: int) -> None:
        self.table = nn.Embedding(24, width, sparse=True)

    def forward(self, x: Tensor) -> Tensor:
        places = (x > 0).long() + 2 * torch.arange(12)
        out: Tensor = self.last(self.table(places).mean(1).tanh())
        return out


@row("an embedding with sparse gradients", packed=False)
def sparse_embedding(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return SparseEmbedding(width)


class Unchained(Changing):
    """Its `train` returns nothing."""

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


@row("a `train` that returns nothing")
def unchained(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(Unchained(width))


class SkipsALayer(Changing):
    """Leaves out a layer for half of the batches."""

    def begin(self, width: int) -> None:
        self.middle = nn.Linear(width, width)

    def change(self, hidden: Tensor) -> Tensor:
        return hidden + self.middle(hidden) if float(hidden.detach().sum()) > 0 else hidden


@row("a layer that some passes skip", packed=False)
def skips_a_layer(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return SkipsALayer(width)


class Unused(Changing):
    def begin(self, width: int) -> None:
        self.spare = nn.Linear(width, width)


@row("a layer that no pass uses")
def unused(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Unused(width)


class RunningMaximumOfData(RunningMaximum):
    def change(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.largest.data = torch.maximum(self.largest.data, hidden.detach().abs().max())
        return hidden / self.largest


@row("a buffer that a pass replaces by its data (buffer.data = …)", packed=False)
def running_maximum_of_data(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return RunningMaximumOfData(width)


class CachedInEvaluation(Changing):
    """Normalizes its weights once when it goes into evaluation mode."""

    def begin(self, width: int) -> None:
        self.cached: Tensor | None = None

    def train(self, mode: bool = True) -> CachedInEvaluation:
        self.cached = None
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.cached
        if weight is None:
            weight = self.first.weight / self.first.weight.norm()
        if not self.training:
            self.cached = weight.detach()
        out: Tensor = self.last((x @ weight.T).tanh())
        return out


@row("weights that are computed once in evaluation mode")
def cached_in_evaluation(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return CachedInEvaluation(width)
