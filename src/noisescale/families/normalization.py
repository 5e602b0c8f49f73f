r"""Normalizations as one table, for [B, C], [B, C, L], [B, C, H, W] and sequences [B, L, C].

y = γ(x − μ)/√(v + ε) + β, with ε = 1e-5.

| name | μ and v are taken over | in evaluation |
|---|---|---|
| none | – | – |
| batch | examples and positions, per channel | running statistics |
| ghost_batch | examples of a ghost batch and positions, per channel (`families.ghost_batch`) | running statistics |
| layer | channels and positions, per example (in a sequence: channels, per position) | the same |
| group | positions and the channels of a group, per example | the same |

v is the biased variance. Batch normalization has the buffers `running_mean` and `running_var` (of the unbiased
variance). Each training batch moves them towards its statistics by the fraction 0.1. A call of `functional_call(module,
(parameters, buffers), x)` in training mode changes the given buffers in place. Inside `vmap(f)`, it changes buffers [R,
…], with one set for each run. Then f must take the buffers as an argument, because torch refuses to change a tensor
that f has captured.

Sources: Ioffe, Szegedy 2015 (batch); Hoffer, Hubara, Soudry 2017 (ghost batches); Ba, Kiros, Hinton 2016 (layer; with
positions it is the normalization of one group, as in Wu, He 2018); Wu, He 2018 (group). ε and momentum are torch's
defaults.
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
        groups: Number of groups of channels, for "group". Default 2, because it divides every even width. The value 32
            of Wu, He 2018 divides no width below 32.
        ghost_size: Number of examples that "ghost_batch" normalizes together. Default 64 (Smith, Elsen, De 2020).

    Raises:
        BadInput: The kind is unknown.
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
        """Return the names of the options of this kind."""
        return NORMALIZATIONS[self.kind].takes

    def module(self, channels: int, *, spatial: Spatial, affine: bool = True) -> nn.Module:
        """Return the module that normalizes activations. For "none", it is an `nn.Identity`.

        Args:
            channels: Number of channels of the activations.
            spatial: Kind of the activations, a key of `SPATIAL`.
            affine: Whether the module has a gain γ and a shift β.

        Raises:
            BadInput: This normalization cannot be applied to this number of channels.
        """
        return NORMALIZATIONS[self.kind].build(self, channels, spatial, affine)

    def batch_fault(self, batch_size: int) -> str | None:
        """Return the requirement that a batch of this size violates. None if the batch can be trained on."""
        return NORMALIZATIONS[self.kind].batch_fault(self, batch_size)

    def falls_back(self, batch_size: int) -> bool:
        """Return whether a batch is smaller than a ghost batch, so that it gets plain batch normalization."""
        return self.kind == "ghost_batch" and batch_size < self.ghost_size


@dataclass(frozen=True, slots=True)
class Normalizer:
    """A row of the table of normalizations.

    Args:
        build: A function from (normalization, channels, spatial, affine) to the module.
        takes: The keys of `[model]` for the sizes of the normalization.
        batch_fault: A function from (normalization, batch size) to the requirement that the batch violates, or None.
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
        required = "at least 2 with normalization 'layer', because one unit has no variance"
        raise BadInput("grid.width", required, channels)
    return nn.LayerNorm(channels, elementwise_affine=affine)


def _group(normalization: Normalization, channels: int, spatial: Spatial, affine: bool) -> nn.Module:
    groups = normalization.groups
    if channels % groups:
        raise BadInput("model.groups", "a divisor of the channels at every width", f"{groups} for {channels} channels")
    if not spatial and channels == groups:
        required = "fewer than the units of every width, because a group of one unit has no variance"
        raise BadInput("model.groups", required, f"{groups} for {channels} units")
    return _channels_first(nn.GroupNorm(groups, channels, affine=affine), spatial)


def _channels_first(module: nn.Module, spatial: Spatial) -> nn.Module:
    return ChannelsFirst(module) if SPATIAL[spatial].channels_last else module


def _fault_of_one_example(normalization: Normalization, batch_size: int) -> str | None:
    return "at least 2 with batch normalization, because one example has no variance" if batch_size < 2 else None


def _fault_of_ghosts(normalization: Normalization, batch_size: int) -> str | None:
    size = normalization.ghost_size
    if batch_size > size and batch_size % size:
        # With equal sizes, one reshape splits a batch, and the noise of the statistics is the same in all ghost
        # batches.
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
