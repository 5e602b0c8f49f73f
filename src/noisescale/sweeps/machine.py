"""The resources of this machine: its device, its cores, its memory, and how workers share them."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from joblib import cpu_count

from noisescale.errors import BadInput

# Assumed memory of a GPU on another machine, in bytes. Few GPUs that people train on have less.
REMOTE_GPU_MEMORY = float(16 << 30)

# Files with the memory limit of a container on Linux, for both versions of control groups.
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def choose_device(device: str, executor: str = "local") -> str:
    """Choose the device to train on. For "auto" this is a GPU if this machine has one.

    Args:
        device: "auto", "cpu" or "cuda".
        executor: "local", "ray" or "slurm". Nodes of a cluster may have a GPU where this machine has none.

    Returns:
        "cpu" or "cuda".

    Raises:
        BadInput: The device is unknown, or this machine has no GPU.
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
    """The worker processes of this machine. They have no more threads in total than there are cores.

    Args:
        count: Number of processes.
        threads: Number of threads per process.
        device: "cpu" or "cuda".
    """

    count: int
    threads: int
    device: str

    @classmethod
    def of(cls, device: str, requested: int | None = None, threads: int | None = None) -> Workers:
        """Share the cores between workers. Together they have no more threads than there are cores.

        The default is one worker per GPU, or one per core without a GPU: two processes with one thread each train small
        networks 1.4 times as fast as one process with two threads (benchmarks/results/speed.md).

        Args:
            device: "cpu" or "cuda".
            requested: Number of workers; None for the default.
            threads: Number of threads of each worker. Default: the environment variable OMP_NUM_THREADS; without it,
                one thread if the number of workers is given, or the cores of each worker.

        Returns:
            The workers.
        """
        cores = usable_cores()
        threads = threads or _threads_of_environment()
        fixed = None if threads is None else min(threads, cores)
        default = max(1, torch.cuda.device_count()) if device == "cuda" else cores // (fixed or 1)
        count = min(requested or default, cores)
        if fixed is None:
            fixed = 1 if requested and device == "cpu" else cores // count
        return cls(count, min(fixed, cores // count), device)

    def memory(self) -> float:
        """Return the memory of one worker, in bytes: its share of a GPU, or of this machine's memory."""
        if self.device != "cuda":
            return usable_memory() / self.count
        if not torch.cuda.is_available():  # the GPU belongs to a cluster; a pack that does not fit there is halved
            return REMOTE_GPU_MEMORY
        sharing = math.ceil(self.count / torch.cuda.device_count())
        return float(torch.cuda.mem_get_info()[1]) / sharing


def _threads_of_environment() -> int | None:
    """Return the number of threads that OMP_NUM_THREADS asks for. None if it is not set, or holds something else."""
    # A list gives the numbers of nested loops; the first is that of a worker.
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) else None


def usable_cores() -> int:
    """Return the number of cores that this process may use, by its affinity and its container's quota."""
    return int(cpu_count())


def usable_memory() -> float:
    """Return the memory that this process may use, in bytes: the machine's, or its container's limit."""
    limits = [float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))]
    for path in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # the file is missing, or holds "max"
            limits.append(float(int(path.read_text())))
    return min(limits)
