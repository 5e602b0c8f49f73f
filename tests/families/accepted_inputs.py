"""Inputs and options that a family takes, so that the tests of every family need no list of families."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from noisescale.errors import BadInput
from noisescale.families import FAMILIES, ModelOptions, family_factory

CLASSES = 5
# Images, signals and vectors.
_SHAPES = ((3, 8, 8), (3, 16), (24,))

WITH_NORMALIZATION = [name for name, family in FAMILIES.items() if "normalization" in family.takes]
SCALE_INVARIANT = [name for name, family in FAMILIES.items() if "scale_invariant" in family.takes]


def shape_for(family: str) -> tuple[int, ...]:
    """Return the shape of one example of a kind of inputs that the family takes; images if it takes them."""
    refusals = []
    for shape in _SHAPES:
        try:
            family_factory(ModelOptions(family))(4, shape, CLASSES)
            return shape
        except BadInput as error:
            refusals.append(str(error))
    raise AssertionError(f"{family} takes neither images, signals nor vectors: {refusals}")


def inputs_for(family: str) -> Tensor:
    """Return eight examples of these inputs in float64."""
    return torch.randn(8, *shape_for(family), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def with_depth(options: ModelOptions) -> ModelOptions:
    """Return the options with two layers, if the family has a depth."""
    return replace(options, depth=2) if "depth" in FAMILIES[options.family].takes else options
