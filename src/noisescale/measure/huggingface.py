"""`NoiseMonitor` inside the Hugging Face `Trainer`; it needs `transformers`, which the user has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from noisescale.errors import BadInput
from noisescale.measure.monitor import EVERY, PARTS, NoiseMonitor


def watch(trainer: Any, *, every: int = EVERY, parts: int = PARTS) -> NoiseMonitor:
    """Let a `Trainer` measure the gradient noise scale as it trains, and log it.

    Args:
        trainer: Of a model that returns its loss, on one device, without accumulation.
        every: As `NoiseMonitor` takes them; steps are the trainer's.
        parts: As `NoiseMonitor` takes them; steps are the trainer's.

    Returns:
        The monitor, whose `estimate()` is the noise now.

    Raises:
        BadInput: A trainer that accumulates gradients: each of its steps has several batches.
    """
    accumulated = trainer.args.gradient_accumulation_steps
    if accumulated != 1:
        raise BadInput("gradient_accumulation_steps", "1, for the noise is that of one batch a step", accumulated)
    monitor = NoiseMonitor(trainer.model, every=every, parts=parts)
    step = trainer.training_step

    def training_step(model: Any, inputs: Mapping[str, Any], *rest: Any, **named: Any) -> Tensor:
        prepared = trainer._prepare_inputs(inputs)

        def loss_of(part: slice) -> Tensor:
            own = {name: one[part] if isinstance(one, Tensor) and one.dim() else one for name, one in prepared.items()}
            with trainer.compute_loss_context_manager():
                found: Tensor = trainer.compute_loss(model, own)
            return found

        if monitor.update_by(_examples(prepared), loss_of) and (now := monitor.estimate()) is not None:
            trainer.log(now.logged())
        loss: Tensor = step(model, prepared, *rest, **named)
        return loss

    trainer.training_step = training_step
    return monitor


def _examples(inputs: Mapping[str, Any]) -> int:
    return max(len(one) for one in inputs.values() if isinstance(one, torch.Tensor) and one.dim())
