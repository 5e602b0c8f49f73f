"""`NoiseMonitor` in the `Trainer` of Hugging Face. It needs the package `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from noisescale.errors import BadInput
from noisescale.measure.monitor import EVERY, PARTS, NoiseMonitor


def watch(trainer: Any, *, every: int = EVERY, parts: int = PARTS) -> NoiseMonitor:
    """Measure and log the gradient noise scale while a `Trainer` trains.

    Args:
        trainer: A trainer on one device, without gradient accumulation. Its model must return its loss.
        every: Number of steps between measurements.
        parts: Number of parts into which a measured batch is split.

    Returns:
        The monitor. Its method `estimate` returns the current noise.

    Raises:
        BadInput: The trainer accumulates gradients over several batches.
    """
    accumulated = trainer.args.gradient_accumulation_steps
    if accumulated != 1:
        raise BadInput("gradient_accumulation_steps", "1, because the monitor measures single batches", accumulated)
    monitor = NoiseMonitor(trainer.model, every=every, parts=parts)
    step = trainer.training_step

    def training_step(model: Any, inputs: Mapping[str, Any], *rest: Any, **named: Any) -> Tensor:
        prepared = trainer._prepare_inputs(inputs)

        def loss_of(part: slice) -> Tensor:
            part_inputs = {
                name: value[part] if isinstance(value, Tensor) and value.dim() else value
                for name, value in prepared.items()
            }
            with trainer.compute_loss_context_manager():
                loss: Tensor = trainer.compute_loss(model, part_inputs)
            return loss

        if monitor.update_by(_examples(prepared), loss_of) and (noise := monitor.estimate()) is not None:
            trainer.log(noise.logged())
        loss: Tensor = step(model, prepared, *rest, **named)
        return loss

    trainer.training_step = training_step
    return monitor


def _examples(inputs: Mapping[str, Any]) -> int:
    lengths = (len(value) for value in inputs.values() if isinstance(value, Tensor) and value.dim())
    return max(lengths, default=0)
