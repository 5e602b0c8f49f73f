"""The settings of the process that code of a user can change for whatever is computed after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import torch

_DEVICES = ("cpu", "cuda")


class ProcessState:
    """Notes the settings of the process, and restores them when it is asked to. Both take a few microseconds.

    These are the working folder; NumPy's handling of floating-point errors; and torch's default precision and device,
    its number of threads, whether it records gradients, lowers the precision of operations by itself (autocast), looks
    for anomalies, and is deterministic, and the accuracy of its products.
    """

    def __init__(self) -> None:
        self._folder, self._errors, self._threads = _folder(), np.geterr(), torch.get_num_threads()
        # A tensor shows the default precision and device in a fifth of the time that torch takes to name them.
        tensor = torch.empty(0)
        self._dtype, self._device = tensor.dtype, tensor.device
        self._gradients, self._anomalies = torch.is_grad_enabled(), torch.is_anomaly_enabled()
        self._autocast = [torch.is_autocast_enabled(device) for device in _DEVICES]
        self._products = torch.get_float32_matmul_precision()
        self._deterministic = torch.are_deterministic_algorithms_enabled()
        self._onednn = torch.backends.mkldnn.enabled

    def restore(self) -> None:
        """Set each setting to the value that was noted, if it has another."""
        if self._folder is not None and _folder() != self._folder:
            with suppress(OSError):  # it may have been removed
                os.chdir(self._folder)
        if np.geterr() != self._errors:
            np.seterr(**self._errors)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        torch.set_grad_enabled(self._gradients)
        self._restore_defaults()
        for device, enabled in zip(_DEVICES, self._autocast, strict=True):
            if torch.is_autocast_enabled(device) != enabled:
                torch.set_autocast_enabled(device, enabled)
        if torch.is_anomaly_enabled() != self._anomalies:
            torch.autograd.set_detect_anomaly(self._anomalies)
        if torch.get_float32_matmul_precision() != self._products:
            torch.set_float32_matmul_precision(self._products)
        # Setting it loads torch's compiler, which takes a second.
        if torch.are_deterministic_algorithms_enabled() != self._deterministic:
            torch.use_deterministic_algorithms(self._deterministic)
        if torch.backends.mkldnn.enabled != self._onednn:
            torch.backends.mkldnn.set_flags(self._onednn)  # type: ignore[no-untyped-call]

    def _restore_defaults(self) -> None:
        tensor = torch.empty(0)
        if tensor.dtype != self._dtype:
            torch.set_default_dtype(self._dtype)
        if tensor.device != self._device:
            # Without a default device, tensors are made faster than with the device that would be the default.
            torch.set_default_device(None)
            if torch.empty(0).device != self._device:
                torch.set_default_device(self._device)


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
