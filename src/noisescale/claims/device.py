"""On what a claim's runs were trained, in words."""

from __future__ import annotations

import torch

from noisescale.sweeps.machine import usable_cores


def device_name(device: str = "cpu") -> str:
    """A GPU by its name, a CPU by its cores.

    Arguments:
        device: as the runs of a sweep note it; which GPU and how many cores is what the machine that judges has, the
            one that trained where a sweep is verified in the same place.
    """
    if device == "cpu":
        return f"CPU, {usable_cores()} cores"
    return torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else device
