"""Who is trained: a table of families, each a builder `(width, input_shape, num_classes, ...) -> nn.Module`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from noisescale.errors import BadInput, unknown_name
from noisescale.families.convnet import convnet as convnet
from noisescale.families.custom import Factory as Factory
from noisescale.families.custom import build_custom, load_factory
from noisescale.families.ghost_batch import GhostBatchNorm as GhostBatchNorm
from noisescale.families.layers import FixedReadOut as FixedReadOut
from noisescale.families.mlp import mlp as mlp
from noisescale.families.normalization import NORMALIZATIONS as NORMALIZATIONS
from noisescale.families.normalization import Normalization as Normalization
from noisescale.families.options import ModelOptions as ModelOptions
from noisescale.families.resnet import ResidualBlock as ResidualBlock
from noisescale.families.resnet import resnet as resnet
from noisescale.families.scale_invariance import ScaleDefect as ScaleDefect
from noisescale.families.scale_invariance import scale_invariance_defects as scale_invariance_defects


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table.

    Arguments:
        build: `(width, input_shape, num_classes, **options)`.
        takes: the options of `ModelOptions` that it is given; "normalization" stands for its sizes too.
    """

    build: Callable[..., nn.Module]
    takes: tuple[str, ...]


FAMILIES: dict[str, Family] = {
    "mlp": Family(mlp, ("depth", "activation", "normalization", "scale_invariant")),
    "convnet": Family(convnet, ("depth", "activation", "normalization", "scale_invariant")),
    "resnet": Family(resnet, ("blocks", "stem", "activation", "normalization", "scale_invariant")),
}


def family_factory(options: ModelOptions) -> Factory:
    """The factory `(width, input_shape, num_classes) -> nn.Module` of these options.

    Raises:
        BadInput: an unknown family (the message gives the nearest known one), or an option that it does not take. What
            only some widths or inputs cannot have is refused when the factory is called.
    """
    if ":" in options.family:
        _refuse_what_is_not_taken(options, ())
        factory = load_factory(options.family)
        return lambda width, shape, classes: build_custom(factory, options.family, width, shape, classes)
    if options.family not in FAMILIES:
        raise unknown_name("model.family", FAMILIES, options.family, ", or 'package.module:factory'")
    family = FAMILIES[options.family]
    _refuse_what_is_not_taken(options, family.takes)
    arguments = {name: options.sizes if name == "normalization" else getattr(options, name) for name in family.takes}
    return lambda width, shape, classes: family.build(width, shape, classes, **arguments)


def _refuse_what_is_not_taken(options: ModelOptions, takes: tuple[str, ...]) -> None:
    sizes = options.sizes
    for name, value in options.given().items():
        owner = next((kind for kind, normalizer in NORMALIZATIONS.items() if name in normalizer.takes), None)
        if owner is not None and "normalization" in takes:
            if name not in sizes.takes:
                raise BadInput(f"model.{name}", f"left out, unless model.normalization = {owner!r}", repr(value))
        elif name != "family" and name not in takes:
            taken = f"which takes {', '.join(takes)}" if takes else "whose factory takes none of these options"
            raise BadInput(f"model.{name}", f"left out for family {options.family!r}, {taken}", repr(value))
