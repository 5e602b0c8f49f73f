"""The settings of the process that code of a user can change for whatever is computed after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch


class ProcessState:
    """Notes the settings of the process, and restores them when it is asked to. Both take two microseconds.

    These are the working folder; NumPy's handling of floating-point errors; and torch's default precision and device,
    its number of threads, whether it records gradients, lowers the precision of operations by itself (autocast), looks
    for anomalies, and is deterministic, and the accuracy of its products.
    """

    def __init__(self) -> None:
        self._settings = _settings()

    def restore(self) -> list[str]:
        """Set each setting to the value that was noted, if it has another.

        Returns:
            The names of the settings that had another value.
        """
        settings = _settings()
        if settings == self._settings:
            return []
        changed = []
        for (name, restore), before, now in zip(_RESTORE.items(), self._settings, settings, strict=True):
            if before != now:
                restore(before)
                changed.append(name)
        return changed


def _settings() -> tuple[Any, ...]:
    """Return the settings in the order of `_RESTORE`."""
    # A tensor shows the default device in a fifth of the time that torch takes to name it.
    return (
        _folder(),
        np.geterr(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.empty(0).device,
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.is_anomaly_enabled(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.mkldnn.enabled,
    )


def _return_to(folder: str | None) -> None:
    if folder is not None:
        with suppress(OSError):  # it may have been removed
            os.chdir(folder)


def _set_device(device: torch.device) -> None:
    # Without a default device, tensors are made faster than with the device that would be the default.
    torch.set_default_device(None)
    if torch.empty(0).device != device:
        torch.set_default_device(device)


_RESTORE: dict[str, Callable[[Any], object]] = {
    "the working folder": _return_to,
    "NumPy's handling of errors": lambda errors: np.seterr(**errors),
    "torch's number of threads": torch.set_num_threads,
    "torch's default precision": torch.set_default_dtype,
    "torch's default device": _set_device,
    "torch's recording of gradients": torch.set_grad_enabled,
    "autocast": lambda enabled: torch.set_autocast_enabled("cpu", enabled),
    "autocast on GPUs": lambda enabled: torch.set_autocast_enabled("cuda", enabled),
    "torch's detection of anomalies": torch.autograd.set_detect_anomaly,
    "the precision of torch's products": torch.set_float32_matmul_precision,
    "torch's determinism": torch.use_deterministic_algorithms,
    "oneDNN": torch.backends.mkldnn.set_flags,
}


@contextmanager
def preserved_process() -> Iterator[None]:
    """Restore the settings of the process after the block."""
    state = ProcessState()
    try:
        yield
    finally:
        state.restore()


def _folder() -> str | None:
    """Return the working folder. None if it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return None
