"""The request that an experiment receives, the evidence that it returns, and its refusal if it has no evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from noisescale.claims.panel import Panel
from noisescale.claims.provenance import Provenance
from noisescale.claims.statistic import Statistic

Scale = Literal["smoke", "laptop", "gpu"]
SCALES: tuple[Scale, ...] = ("smoke", "laptop", "gpu")


@dataclass(frozen=True)
class Request:
    """A request for the evidence on a claim.

    Args:
        scale: Size of the experiment.
        first_seed: First seed of the set. Sets that start 1,000 apart share no seed.
        folder: Folder of the sweeps, which experiments share.
        null: Whether the experiment removes the effect that the claim states. The claim must then not be supported.
        max_seconds: Time in seconds after which a sweep pauses. The next request continues it. None sets no limit.
    """

    scale: Scale
    first_seed: int
    folder: Path
    null: bool = False
    max_seconds: float | None = None

    def seeds(self, counts: Mapping[str, int], offset: int = 0) -> range:
        """Return the seeds to train.

        Args:
            counts: Number of seeds at each scale.
            offset: Distance of the first seed from the first seed of the set.
        """
        first = self.first_seed + offset
        return range(first, first + counts[self.scale])


@dataclass(frozen=True)
class Evidence:
    """The result of an experiment.

    Args:
        statistics: The statistics that the criterion tests.
        panels: The panels of the figure.
        runs: Number of runs that were trained or simulated.
        setting: Description of what was trained, as facts separated by commas.
        reported: Further numbers without intervals, by name.
        beside: Further statistics, such as the same comparison at equal training time. The verdict does not depend on
            them.
        provenance: The sweeps and devices behind the statistics.
    """

    statistics: tuple[Statistic, ...]
    panels: tuple[Panel, ...]
    runs: int
    setting: str
    reported: Mapping[str, float] = field(default_factory=dict)
    beside: tuple[Statistic, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)


class NotRun(Exception):
    """The experiment has no evidence. The message gives the reason."""


Experiment = Callable[[Request], Evidence]
