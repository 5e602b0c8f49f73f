"""`ModelOptions`: everything that fixes an architecture except its width."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from noisescale.families.normalization import Normalization
from noisescale.runs import Run


@dataclass(frozen=True)
class ModelOptions:
    """The keys of a spec's `[model]`; equal options build equal networks, and they are hashable.

    Arguments:
        family: a name in `FAMILIES`, or `"package.module:factory"`, which takes no other option.
        depth: hidden layers of an MLP, convolutions of a convnet.
        activation: "relu" or "tanh". normalization: a name in `NORMALIZATIONS`.
        groups: of channels, for "group". Default 2, which divides every even width; the 32 of Wu, He 2018 divide no
            width below 32.
        ghost_size: examples that are normalized together, for "ghost_batch". Default 64 (Smith, Elsen, De 2020).
        blocks: residual blocks of each stage. Default [1, 1], the smallest net with a stage of each kind.
        stem: channels of a resnet's first convolution; 0 for as many as the width.
        scale_invariant: whether the loss is invariant to the scale of each weight (`families.scale_invariance`).
    """

    family: str
    depth: int = 1
    activation: str = "relu"
    normalization: str = "none"
    groups: int = 2
    ghost_size: int = 64
    blocks: tuple[int, ...] = (1, 1)
    stem: int = 0
    scale_invariant: bool = False

    @classmethod
    def of_run(cls, run: Run) -> ModelOptions:
        """The options of a run's model."""
        values = {f.name: getattr(run, f.name) for f in fields(cls)}
        return cls(**{**values, "blocks": tuple(json.loads(run.blocks))})

    def run_fields(self) -> dict[str, Any]:
        """The same as fields of `Run`."""
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "blocks": json.dumps(self.blocks)}

    @property
    def sizes(self) -> Normalization:
        """The normalization with its sizes."""
        return Normalization(self.normalization, self.groups, self.ghost_size)

    def given(self) -> dict[str, Any]:
        """The options whose value is not the default."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
