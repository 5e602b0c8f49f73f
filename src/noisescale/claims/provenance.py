"""The sweeps behind an experiment's evidence, and the devices that trained their runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from noisescale.sweeps import usable_cores


@dataclass(frozen=True)
class Provenance:
    """The sweeps and the devices behind an experiment's evidence.

    Args:
        trained: Names of the sweeps that were trained.
        planted: Names of the sweeps that were planted instead of trained.
        devices: Names of the devices that trained the runs, as `device_name` returns them. It is empty if the
            experiment trains in its own process.
    """

    trained: tuple[str, ...] = ()
    planted: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """The names of the devices in one text. It is empty if any sweep was planted."""
        return "" if self.planted else "; ".join(dict.fromkeys(self.devices or (device_name(),)))


def device_name(device: str = "cpu") -> str:
    """Name a GPU by its model and a CPU by its number of usable cores.

    The model and the number of cores come from the machine that computes the verdict. They are wrong if another machine
    trained the sweeps.

    Args:
        device: The device in the table of runs: "cpu" or "cuda".
    """
    if device == "cpu":
        return f"CPU, {usable_cores()} cores"
    return torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else device
