"""The optimizers that a spec can name."""

from __future__ import annotations

from noisescale.training.optimizers.adamw import AdamW
from noisescale.training.optimizers.protocol import Optimizer
from noisescale.training.optimizers.sgd import SGD

# A new optimizer is one more row.
OPTIMIZERS: dict[str, Optimizer] = {optimizer.name: optimizer for optimizer in (SGD(), AdamW())}
