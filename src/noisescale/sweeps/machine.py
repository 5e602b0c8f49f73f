"""What this machine has to train with: its device, its cores, and how many workers they are for."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from joblib import cpu_count

from noisescale.errors import BadInput

# Bytes of a GPU that is not seen from here: few that people train on have less.
UNSEEN_GPU = float(16 << 30)

# Where Linux says how much memory a container may take, in both versions of its control groups.
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def choose_device(device: str, executor: str = "local") -> str:
    """The device to train on: for "auto" a GPU where there is one here.

    Args:
        device: "auto", "cpu" or "cuda".
        executor: Nodes of a cluster may have the GPU that this machine has not.

    Raises:
        BadInput: An unknown device, or a GPU that is not there.
    """
    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if device not in ("cpu", "cuda"):
        raise BadInput("--device", "auto, cpu or cuda", repr(device))
    if device == "cuda" and not available and executor == "local":
        raise BadInput("--device", "a CUDA device that torch can see", "none")
    return device


@dataclass(frozen=True, slots=True)
class Workers:
    """Who trains on this machine: so many processes of so many threads, together no more than there are cores."""

    count: int
    threads: int
    device: str

    @classmethod
    def of(cls, device: str, wanted: int | None = None) -> Workers:
        """As many as are wanted and there are cores for.

        By default one a GPU, or a core: two processes of one thread train small networks 1.4 times as fast as one of
        two (benchmarks/results/speed.md).
        """
        cores = usable_cores()
        default = max(1, torch.cuda.device_count()) if device == "cuda" else cores
        count = min(wanted or default, cores)
        return cls(count, cores // count, device)

    def memory(self) -> float:
        """Bytes that a worker may count on: of its GPU, which several may share, or of this machine."""
        if self.device != "cuda":
            return usable_memory() / self.count
        if not torch.cuda.is_available():  # a cluster's GPU: what it does not hold is halved there
            return UNSEEN_GPU
        sharing = math.ceil(self.count / torch.cuda.device_count())
        return float(torch.cuda.mem_get_info()[1]) / sharing


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and by its container's quota."""
    return int(cpu_count())


def usable_memory() -> float:
    """Bytes of memory that this process may use, by the machine and by its container's limit."""
    limits = [float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))]
    for path in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            limits.append(float(int(path.read_text())))
    return min(limits)
