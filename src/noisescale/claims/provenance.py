"""Where the runs of an experiment come from: the sweeps, and the devices that trained them."""

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
        devices: The devices that trained the runs, as `device_name` writes them. Empty where the experiment trains
            in its own process.
    """

    trained: tuple[str, ...] = ()
    planted: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """The devices in words; empty where any sweep was planted."""
        return "" if self.planted else "; ".join(dict.fromkeys(self.devices or (device_name(),)))


def device_name(device: str = "cpu") -> str:
    """Name a GPU by its model and a CPU by its number of usable cores.

    The GPU's model and the number of cores are those of the machine that judges. It is also the machine that trained
    where sweeps are verified in place.

    Args:
        device: The device in the table of runs: "cpu" or "cuda".
    """
    if device == "cpu":
        return f"CPU, {usable_cores()} cores"
    return torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else device
