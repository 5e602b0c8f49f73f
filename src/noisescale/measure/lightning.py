"""`NoiseMonitor` as a callback of Lightning; it needs `lightning` or `pytorch_lightning`, which the user has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noisescale.errors import BadInput
from noisescale.measure.monitor import EVERY, PARTS, MonitoredNoise, NoiseMonitor
from noisescale.measure.problem import LossFunction

if TYPE_CHECKING:
    Callback: Any = object
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        from pytorch_lightning import Callback


class NoiseCallback(Callback):  # type: ignore[misc]  # untyped where the library is absent
    """Logs the gradient noise scale of a module whose batches are (inputs, targets).

    Args:
        loss: (outputs, targets) → their mean over the batch, as the module's own training step has it.
        every: As `NoiseMonitor` takes them; steps are training batches.
        parts: As `NoiseMonitor` takes them; steps are training batches.
    """

    def __init__(self, loss: LossFunction, *, every: int = EVERY, parts: int = PARTS) -> None:
        super().__init__()
        self._options: dict[str, Any] = {"every": every, "parts": parts}
        self._loss = loss
        self._monitor: NoiseMonitor | None = None

    def estimate(self) -> MonitoredNoise | None:
        """The noise now; None before the sixth measurement."""
        return None if self._monitor is None else self._monitor.estimate()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        accumulated = trainer.accumulate_grad_batches
        if accumulated != 1:
            raise BadInput("accumulate_grad_batches", "1, for the noise is that of one batch a step", accumulated)
        self._monitor = NoiseMonitor(pl_module, self._loss, **self._options)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Measure at the weights with which the step begins."""
        inputs, targets = batch
        assert self._monitor is not None
        if self._monitor.update(inputs, targets) and (now := self._monitor.estimate()) is not None:
            pl_module.log_dict(now.logged())
