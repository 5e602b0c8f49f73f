"""`ModelOptions`: everything that determines an architecture, except its width."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from noisescale.families.normalization import Normalization
from noisescale.runs import Run


@dataclass(frozen=True)
class ModelOptions:
    """The keys of `[model]` in a spec that determine the network, and whether it has a width.

    Equal options build equal networks.

    None stands for a default that only some families or normalizations have. `families.complete` replaces it by the
    default.

    Args:
        family: Name in `FAMILIES`, or `"package.module:factory"`. A factory has only the option `outputs`.
        depth: Number of hidden layers of an MLP, or of convolutions of a convnet.
        activation: A name in `ACTIVATIONS`.
        normalization: Name in `NORMALIZATIONS`.
        groups: Number of groups of channels, for "group".
        ghost_size: Number of examples that are normalized together, for "ghost_batch".
        blocks: Number of residual blocks in each stage of a resnet.
        stem: Number of channels of the first convolution of a resnet. None for the width.
        scale_invariant: Whether the loss is invariant to the scale of each weight (`families.scale_invariance`).
        heads: Number of heads of a transformer.
        dropout: Probability of dropout of a transformer.
        tied: Whether the read-out of a transformer is its embedding of tokens.
        read_out: "tokens" or "mean" for a transformer, None for what the inputs suggest. "mean" (also None) or
            "flatten" for convolutions.
        outputs: Entry of the outputs of a user's module that the loss takes. None for the outputs themselves.
        fixed: Whether the user's model is one fixed model without a width.
    """

    family: str
    depth: int = 1
    activation: str = "relu"
    normalization: str = "none"
    groups: int | None = None
    ghost_size: int | None = None
    blocks: tuple[int, ...] | None = None
    stem: int | None = None
    scale_invariant: bool = False
    heads: int | None = None
    dropout: float = 0.0
    tied: bool = False
    read_out: str | None = None
    outputs: str | None = None
    fixed: bool = False

    @classmethod
    def of_run(cls, run: Run) -> ModelOptions:
        """Return the options of a run's model."""
        values = {f.name: getattr(run, f.name) for f in fields(cls)}
        return cls(**{**values, "blocks": None if run.blocks is None else tuple(json.loads(run.blocks))})

    def run_fields(self) -> dict[str, Any]:
        """Return the options as fields of `Run`."""
        blocks = None if self.blocks is None else json.dumps(self.blocks)
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "blocks": blocks}

    @property
    def sized_normalization(self) -> Normalization:
        """The normalization, with its number of groups or its ghost size."""
        sizes = {"groups": self.groups, "ghost_size": self.ghost_size}
        return Normalization(self.normalization, **{name: size for name, size in sizes.items() if size is not None})

    def given(self) -> dict[str, Any]:
        """Return the options other than the family whose values differ from their defaults."""
        names = [f for f in fields(self)[1:] if f.name != "fixed"]
        return {f.name: getattr(self, f.name) for f in names if getattr(self, f.name) != f.default}
