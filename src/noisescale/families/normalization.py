r"""Normalizations as one table, for [B, C], [B, C, L], [B, C, H, W] and sequences [B, L, C].

y = γ(x − μ)/√(v + ε) + β, with ε = 1e-5.

| name | μ and v are taken over | in evaluation |
|---|---|---|
| none | – | – |
| batch | examples and positions, per channel | running statistics |
| ghost_batch | examples of a ghost batch and positions, per channel (`families.ghost_batch`) | running statistics |
| layer | channels and positions, per example; in a sequence, channels, per position | the same |
| group | positions and the channels of a group, per example | the same |

v is the biased variance. Batch normalization keeps `running_mean` and `running_var` (of the unbiased variance) as
buffers, moved by momentum 0.1. Under `functional_call(module, (parameters, buffers), x)` in training mode the buffers
that were passed change in place. So they do inside `vmap(f)`, with buffers [R, …], one set a run, if f takes them
as an argument: torch refuses to change a tensor that f has captured.

Sources: Ioffe, Szegedy 2015; Hoffer, Hubara, Soudry 2017 (ghost batches); Ba, Kiros, Hinton 2016 (layer; with positions
one group, as in Wu, He 2018); Wu, He 2018 (group). ε and momentum are torch's defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from noisescale.errors import BadInput, unknown_name
from noisescale.families.ghost_batch import GhostBatchNorm
from noisescale.families.sequences import ChannelsFirst
from noisescale.families.spatial import SPATIAL, Spatial


@dataclass(frozen=True, slots=True)
class Normalization:
    """A kind of normalization and its sizes.

    Args:
        kind: A name in `NORMALIZATIONS`.
        groups: Groups of channels for "group". Default 2, which divides every even width; the 32 of Wu, He 2018 divide
            none below 32.
        ghost_size: Examples normalized together by "ghost_batch". Default 64 (Smith, Elsen, De 2020).

    Raises:
        BadInput: An unknown kind.
    """

    kind: str = "none"
    groups: int = 2
    ghost_size: int = 64

    def __post_init__(self) -> None:
        if self.kind not in NORMALIZATIONS:
            raise unknown_name("model.normalization", NORMALIZATIONS, self.kind)

    def __bool__(self) -> bool:
        return self.kind != "none"

    @property
    def takes(self) -> tuple[str, ...]:
        """Return the options that this kind takes."""
        return NORMALIZATIONS[self.kind].takes

    def module(self, channels: int, *, spatial: Spatial, affine: bool = True) -> nn.Module:
        """Return the module that normalizes this many channels; an `nn.Identity` for "none".

        Args:
            channels: Channels of the activations.
            spatial: Kind of the activations, a key of `SPATIAL`.
            affine: Whether it has a gain γ and a shift β.

        Raises:
            BadInput: Channels that cannot be normalized in this way.
        """
        return NORMALIZATIONS[self.kind].build(self, channels, spatial, affine)

    def batch_fault(self, batch_size: int) -> str | None:
        """Return the requirement that a batch of this size does not meet; None if the batch can be trained on."""
        return NORMALIZATIONS[self.kind].batch_fault(self, batch_size)

    def falls_back(self, batch_size: int) -> bool:
        """Return whether a batch is so small that it is one ghost batch: plain batch normalization."""
        return self.kind == "ghost_batch" and batch_size < self.ghost_size


@dataclass(frozen=True, slots=True)
class Normalizer:
    """A row of the table.

    Args:
        build: (normalization, channels, spatial, affine) to the module.
        takes: The keys of `[model]` that it needs besides its name.
        batch_fault: (normalization, batch size) to the requirement that the batch does not meet, or None.
    """

    build: Callable[[Normalization, int, Spatial, bool], nn.Module]
    takes: tuple[str, ...] = ()
    batch_fault: Callable[[Normalization, int], str | None] = lambda normalization, batch_size: None


def _none(normalization: Normalization, channels: int, spatial: Spatial, affine: bool) -> nn.Module:
    return nn.Identity()


def _batch(normalization: Normalization, channels: int, spatial: Spatial, affine: bool) -> nn.Module:
    return _channels_first(SPATIAL[spatial].batch_norm(channels, affine=affine), spatial)


def _ghost_batch(normalization: Normalization, channels: int, spatial: Spatial, affine: bool) -> nn.Module:
    return _channels_first(GhostBatchNorm(channels, normalization.ghost_size, affine=affine), spatial)


def _layer(normalization: Normalization, channels: int, spatial: Spatial, affine: bool) -> nn.Module:
    if spatial and not SPATIAL[spatial].channels_last:
        return nn.GroupNorm(1, channels, affine=affine)
    if channels < 2:
        raise BadInput("grid.width", "at least 2 with normalization 'layer', for one unit has no variance", channels)
    return nn.LayerNorm(channels, elementwise_affine=affine)


def _group(normalization: Normalization, channels: int, spatial: Spatial, affine: bool) -> nn.Module:
    groups = normalization.groups
    if channels % groups:
        raise BadInput("model.groups", "a divisor of the channels at every width", f"{groups} for {channels} channels")
    if not spatial and channels == groups:
        required = "fewer than the units of every width, for a group of one unit has no variance"
        raise BadInput("model.groups", required, f"{groups} for {channels} units")
    return _channels_first(nn.GroupNorm(groups, channels, affine=affine), spatial)


def _channels_first(module: nn.Module, spatial: Spatial) -> nn.Module:
    return ChannelsFirst(module) if SPATIAL[spatial].channels_last else module


def _fault_of_one_example(normalization: Normalization, batch_size: int) -> str | None:
    return "at least 2 with batch normalization, for one example has no variance" if batch_size < 2 else None


def _fault_of_ghosts(normalization: Normalization, batch_size: int) -> str | None:
    size = normalization.ghost_size
    if batch_size > size and batch_size % size:
        # Ghost batches of equal size are one reshape, and the same noise in every one of them.
        return f"multiples of model.ghost_size = {size}, or sizes below it, which are normalized as a whole"
    return _fault_of_one_example(normalization, batch_size)


NORMALIZATIONS: dict[str, Normalizer] = {
    "none": Normalizer(_none),
    "batch": Normalizer(_batch, batch_fault=_fault_of_one_example),
    "ghost_batch": Normalizer(_ghost_batch, takes=("ghost_size",), batch_fault=_fault_of_ghosts),
    "layer": Normalizer(_layer),
    "group": Normalizer(_group, takes=("groups",)),
}

NO_NORMALIZATION = Normalization()
