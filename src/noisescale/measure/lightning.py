"""`NoiseMonitor` as a callback of Lightning. It needs the package `lightning` or `pytorch_lightning`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from noisescale.errors import BadInput, one_line
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
    """Logs the gradient noise scale of a module.

    Args:
        loss: Loss of the outputs and targets, averaged over the batch, as in the training step of the module.
        every: Number of training batches between measurements.
        parts: Number of parts into which a measured batch is split.
        unpack: A function from a batch to (inputs, targets). Not needed if batches are such pairs. Batches of another
            form are skipped with a warning.
    """

    def __init__(
        self,
        loss: LossFunction,
        *,
        every: int = EVERY,
        parts: int = PARTS,
        unpack: Callable[[Any], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self._unpack = unpack
        self._options: dict[str, Any] = {"every": every, "parts": parts}
        self._loss = loss
        self._monitor: NoiseMonitor | None = None
        self._has_warned = False

    def estimate(self) -> MonitoredNoise | None:
        """Return the current noise, or None before the sixth measurement."""
        return None if self._monitor is None else self._monitor.estimate()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        accumulated = trainer.accumulate_grad_batches
        if accumulated != 1:
            self._warn(f"the monitor measures single batches, and accumulate_grad_batches is {accumulated}")
            return
        try:
            self._monitor = NoiseMonitor(pl_module, self._loss, **self._options)
        except BadInput as error:  # nothing is trained, or an option is out of range
            self._warn(str(error))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Measure the noise at the weights before the step, if a measurement is due."""
        if self._monitor is None:
            return
        if self._unpack is not None:
            try:
                batch = self._unpack(batch)
            except Exception as error:  # the user's function may raise anything, which must not end the training
                self._warn(f"`unpack` raises {one_line(error)}")
                return
        if not (isinstance(batch, tuple | list) and len(batch) == 2):
            self._warn(f"batches are {_form(batch)}; give `unpack`")
            return
        if self._monitor.update(*batch) and (noise := self._monitor.estimate()) is not None:
            pl_module.log_dict(noise.logged())

    def _warn(self, reason: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(f"the noise is not measured: {reason}", stacklevel=3)


def _form(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"dictionaries with the keys {', '.join(map(str, batch))}, not pairs (inputs, targets)"
    kind = type(batch).__name__
    return f"of {len(batch)} entries ({kind}), not 2" if isinstance(batch, tuple | list) else f"of the type {kind}"
