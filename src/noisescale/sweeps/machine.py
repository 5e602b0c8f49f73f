"""What this machine has to train with: its device, its cores, and how many workers they are for."""

from __future__ import annotations

import torch
from joblib import cpu_count

from noisescale.errors import BadInput


def choose_device(device: str, executor: str = "local") -> str:
    """The device to train on: for "auto" a GPU where there is one here.

    Arguments:
        executor: nodes of a cluster may have the GPU that this machine has not.
    Raises:
        BadInput: an unknown device, or a GPU that is not there.
    """
    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if device not in ("cpu", "cuda"):
        raise BadInput("--device", "auto, cpu or cuda", repr(device))
    if device == "cuda" and not available and executor == "local":
        raise BadInput("--device", "a CUDA device that torch can see", "none")
    return device


def default_workers(device: str) -> int:
    """One worker a GPU, or a core: two processes of one thread train small networks 1.4 times as fast as one of two."""
    return max(1, torch.cuda.device_count()) if device == "cuda" else usable_cores()


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and by its container's quota."""
    return int(cpu_count())
