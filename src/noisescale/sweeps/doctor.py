"""`doctor`: what this machine has, for a bug report or a first look."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from noisescale.datasets import KNOWN_DATASETS, find_local, user_cache
from noisescale.sweeps.machine import usable_cores

_PACKAGES = ("noisescale", "torch", "numpy", "scipy", "pandas", "pyarrow", "pydantic", "mnist1d")
_EMBEDDED = ("mnist1d", "digits")
# A file of each data set that is read from disk; where one lies, the others do.
_WITNESSES = {
    "mnist": ("mnist", "train-images-idx3-ubyte.gz"),
    "fashion_mnist": ("fashion_mnist", "train-images-idx3-ubyte.gz"),
    "cifar10": ("cifar10", "cifar-10-batches-py/data_batch_1"),
}


def examine() -> dict[str, Any]:
    """Versions, devices, threads, precision and data, ready to print."""
    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "cores": usable_cores(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "float32_matmul": torch.get_float32_matmul_precision(),
        "compiler": "found"
        if any(shutil.which(name) for name in ("c++", "g++", "clang++"))
        else "none (only --compile needs it)",
        "data": {name: "embedded" if name in _EMBEDDED else _where(name) for name in KNOWN_DATASETS},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _where(name: str) -> str:
    folder, file = _WITNESSES[name]
    path = find_local(folder, file)
    return str(path) if path else f"not found; set NOISESCALE_DATA, or it is downloaded to {user_cache()}"
