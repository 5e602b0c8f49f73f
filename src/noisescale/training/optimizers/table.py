"""The optimizers that a spec can name."""

from __future__ import annotations

from noisescale.training.optimizers.adamw import AdamW
from noisescale.training.optimizers.protocol import Optimizer
from noisescale.training.optimizers.sgd import SGD

# A new optimizer is one more row.
OPTIMIZERS: dict[str, Optimizer] = {optimizer.name: optimizer for optimizer in (SGD(), AdamW())}


def hyperparameter_names() -> tuple[str, ...]:
    """Return the hyperparameters of all optimizers, which are axes of a grid and keys of a run."""
    return tuple(dict.fromkeys(name for optimizer in OPTIMIZERS.values() for name in optimizer.hyperparameters))
