"""The table of families, the defaults of their options, and the check that a family has an option."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from torch import nn

from noisescale.errors import BadInput, unknown_name
from noisescale.families.convnet import convnet
from noisescale.families.custom import CustomBuild, Factory, load_factory
from noisescale.families.fixed_model import FixedModel
from noisescale.families.mlp import mlp
from noisescale.families.normalization import NORMALIZATIONS
from noisescale.families.options import ModelOptions
from noisescale.families.resnet import resnet
from noisescale.families.transformer import QUERY_ROWS, transformer
from noisescale.input_shapes import InputShape, NamedShapes


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table of families.

    Args:
        build: A function `(width, input_shape, num_classes, **options) -> nn.Module`.
        takes: The options of `ModelOptions` that the family accepts. "normalization" includes its sizes.
        defaults: Default values of options that no other family has.
        query_rows: Rows of weights that compute the queries of attention.
        read_outs: Values of `read_out`, of families that have this option.
        takes_tokens: Whether inputs may be tokens.
    """

    build: Callable[..., nn.Module]
    takes: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    query_rows: tuple[str, ...] = ()
    read_outs: tuple[str, ...] = ()
    takes_tokens: bool = False


# What the read-out of a convolutional network takes: the mean over positions, or all of them.
_OF_POSITIONS = ("mean", "flatten")

FAMILIES: dict[str, Family] = {
    "mlp": Family(mlp, ("depth", "activation", "normalization", "scale_invariant")),
    "convnet": Family(
        convnet, ("depth", "activation", "normalization", "scale_invariant", "read_out"), read_outs=_OF_POSITIONS
    ),
    # The default is the smallest network with both kinds of stages. It trains in seconds on small images.
    "resnet": Family(
        resnet, ("blocks", "stem", "activation", "normalization", "scale_invariant", "read_out"),
        defaults={"blocks": (1, 1)}, read_outs=_OF_POSITIONS,
    ),
    "transformer": Family(
        transformer, ("depth", "heads", "dropout", "tied", "read_out"), defaults={"heads": 4}, query_rows=QUERY_ROWS,
        read_outs=("tokens", "mean"), takes_tokens=True,
    ),
}  # fmt: skip

# Every value of `read_out`.
READ_OUTS = tuple(dict.fromkeys(kind for family in FAMILIES.values() for kind in family.read_outs))


# The options of a user's factory.
CUSTOM_OPTIONS = ("outputs",)


def complete(options: ModelOptions) -> ModelOptions:
    """Fill in the defaults of the family and the normalization.

    Args:
        options: The options. None stands for a default.

    Returns:
        The complete options.

    Raises:
        BadInput: The family is unknown, or it does not have one of the given options.
    """
    family = _family(options)
    sizes = options.sized_normalization
    for name, value in options.given().items():
        owner = next((kind for kind, normalizer in NORMALIZATIONS.items() if name in normalizer.takes), None)
        if owner is not None and "normalization" in family.takes:
            if name not in sizes.takes:
                required = f"must be left out, unless model.normalization = {owner!r}"
                raise BadInput(f"model.{name}", required, repr(value))
        elif name not in family.takes:
            taken = (
                "whose factory has no such options"
                if family.takes == CUSTOM_OPTIONS
                else f"which has {', '.join(family.takes)}"
            )
            raise BadInput(f"model.{name}", f"must be left out for family {options.family!r}, {taken}", repr(value))
    if options.read_out is not None and options.read_out not in family.read_outs:
        kinds = ", ".join(map(repr, family.read_outs))
        raise BadInput("model.read_out", f"one of {kinds} for family {options.family!r}", repr(options.read_out))
    defaults = {**family.defaults, **{name: getattr(sizes, name) for name in sizes.takes}}
    return replace(options, **{name: value for name, value in defaults.items() if getattr(options, name) is None})


def family_factory(options: ModelOptions) -> Factory:
    """Return a factory `(width, input_shape, num_classes) -> nn.Module` for these options.

    The factory raises `BadInput` if the width or the inputs do not fit the options.

    Args:
        options: The options.

    Raises:
        BadInput: `complete` refuses the options.
    """
    options = complete(options)
    family = _family(options)
    arguments = {
        name: options.sized_normalization if name == "normalization" else getattr(options, name)
        for name in family.takes
    }
    return _FamilyFactory(family.build, tuple(arguments.items()))


@dataclass(frozen=True)
class _FamilyFactory:
    """A factory with fixed options. Factories with equal options are equal, so that results can be cached by factory.

    Args:
        build: A function `(width, input_shape, num_classes, **options) -> nn.Module`.
        options: Names and values of the options.
    """

    build: Callable[..., nn.Module]
    options: tuple[tuple[str, Any], ...]

    def __call__(self, width: int, input_shape: InputShape, num_classes: int) -> nn.Module:
        if isinstance(input_shape, NamedShapes) and not isinstance(self.build, CustomBuild):
            got = f"inputs by name: {', '.join(map(repr, input_shape))}"
            raise BadInput("model.family", "your factory as 'package.module:factory', for inputs by name", got)
        return self.build(width, input_shape, num_classes, **dict(self.options))


def _family(options: ModelOptions) -> Family:
    name = options.family
    if ":" in name:
        factory = load_factory(name)
        return Family(CustomBuild(_fixed_model(factory, name) if options.fixed else factory, name), CUSTOM_OPTIONS)
    if name not in FAMILIES:
        raise unknown_name("model.family", FAMILIES, name, ", or 'package.module:factory'")
    return FAMILIES[name]


@lru_cache
def _fixed_model(model: object, reference: str) -> FixedModel:
    """Return the same object for equal arguments, because results are cached by factory."""
    return FixedModel(model, reference)
