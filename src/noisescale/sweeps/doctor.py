"""The versions, devices and data of this machine, for a bug report or a first look."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from noisescale.datasets import KNOWN_DATASETS, Source, find_local, user_cache
from noisescale.sweeps.machine import usable_cores

_PACKAGES = ("noisescale", "torch", "numpy", "scipy", "pandas", "pyarrow", "pydantic", "mnist1d")


def examine() -> dict[str, Any]:
    """Describe the machine: versions, devices, threads, precision and the location of each data set.

    Returns:
        Values by name, ready to print.
    """
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
        "data": {name: _location(source) for name, source in KNOWN_DATASETS.items()},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _location(source: Source) -> str:
    if "path" in source.keys:
        return "the file that dataset.path names"
    if source.file is None:
        return "embedded"
    path = find_local(*source.file)
    return str(path) if path else f"not found; set NOISESCALE_DATA, or it is downloaded to {user_cache()}"
