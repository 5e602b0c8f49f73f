"""`NoiseMonitor` as a callback of Lightning. It needs the package `lightning` or `pytorch_lightning`."""

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
        loss: Loss of the outputs and targets, averaged over the batch, as in the training step of the module.
        every: Number of training batches between measurements.
        parts: Number of parts into which a measured batch is split.
    """

    def __init__(self, loss: LossFunction, *, every: int = EVERY, parts: int = PARTS) -> None:
        super().__init__()
        self._options: dict[str, Any] = {"every": every, "parts": parts}
        self._loss = loss
        self._monitor: NoiseMonitor | None = None

    def estimate(self) -> MonitoredNoise | None:
        """Return the current noise, or None before the sixth measurement."""
        return None if self._monitor is None else self._monitor.estimate()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        accumulated = trainer.accumulate_grad_batches
        if accumulated != 1:
            raise BadInput("accumulate_grad_batches", "1, because the monitor measures single batches", accumulated)
        self._monitor = NoiseMonitor(pl_module, self._loss, **self._options)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Measure the noise at the weights before the step, if a measurement is due."""
        inputs, targets = batch
        assert self._monitor is not None
        if self._monitor.update(inputs, targets) and (noise := self._monitor.estimate()) is not None:
            pl_module.log_dict(noise.logged())
