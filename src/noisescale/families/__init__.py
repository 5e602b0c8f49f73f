"""Who is trained: a table of factories `(width, input_shape, num_classes, ...) -> nn.Module`."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import nn

from noisescale.errors import BadInput
from noisescale.families.custom import Factory as Factory
from noisescale.families.custom import build_custom, load_factory
from noisescale.families.mlp import mlp as mlp

FAMILIES: dict[str, Callable[..., nn.Module]] = {"mlp": mlp}


def family_factory(family: str, *, depth: int, activation: str) -> Factory:
    """The factory `(width, input_shape, num_classes) -> nn.Module` of a family.

    Arguments:
        family: a name in `FAMILIES`, or `"package.module:factory"`.
        depth, activation: options of the built-in families; a user's factory takes none.
    Raises:
        BadInput: an unknown name; the message gives the nearest known one.
    """
    if ":" in family:
        factory = load_factory(family)
        return lambda width, shape, classes: build_custom(factory, family, width, shape, classes)
    if family not in FAMILIES:
        near = difflib.get_close_matches(family, FAMILIES, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise BadInput("model.family", f"one of {', '.join(FAMILIES)}, or 'package.module:factory'{hint}", repr(family))
    build = FAMILIES[family]
    return lambda width, shape, classes: build(width, shape, classes, depth=depth, activation=activation)
