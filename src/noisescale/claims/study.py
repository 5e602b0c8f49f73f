"""Studies behind claims: their sweeps at each scale, and the function that trains them or reads their runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from noisescale.claims.evidence import NotRun, Request, Scale
from noisescale.claims.planted import PlantedStudy, World, plant
from noisescale.claims.sweep_runs import SweepRuns
from noisescale.store import Study
from noisescale.sweeps import SweepSpec, failures, missing_runs, sweep

NOT_AT_THIS_SCALE = "no experiment for this claim at this scale"

Build = Callable[[int], list[SweepSpec]]


@dataclass(frozen=True)
class GpuSweeps:
    """The sweeps of a study at the size of one GPU.

    Args:
        build: Function from the first seed to the specs.
        setting: Description of what is trained, as facts separated by commas.
        differs: How the setting differs from the setting of the paper, in sentences.
    """

    build: Build
    setting: str
    differs: str


@dataclass(frozen=True)
class ClaimStudy:
    """A study that provides the runs for one or more claims.

    Args:
        setting: Description of what is trained at laptop scale, as facts separated by commas.
        laptop: Function from the first seed to the specs at laptop scale. At smoke scale, the outcomes of the same
            specs are simulated. None if the experiment trains in its own process instead.
        gpu: The sweeps at GPU scale, or None.
    """

    setting: str
    laptop: Build | None = None
    gpu: GpuSweeps | None = None

    def setting_at(self, scale: Scale) -> str:
        """Return the description of what is trained at a scale.

        Args:
            scale: Size of the sweeps.
        """
        return self.gpu.setting if scale == "gpu" and self.gpu is not None else self.setting

    def specs(self, scale: Scale, first_seed: int) -> list[SweepSpec]:
        """Return the specs of the sweeps.

        Args:
            scale: Size of the sweeps.
            first_seed: First seed of the set.

        Raises:
            NotRun: The study has no sweeps at this scale.
        """
        build = (self.gpu.build if self.gpu is not None else None) if scale == "gpu" else self.laptop
        if build is None:
            raise NotRun(NOT_AT_THIS_SCALE)
        return build(first_seed)


def obtain(request: Request, study: ClaimStudy, world: World | None = None) -> SweepRuns:
    """Return the runs of a study: planted at smoke scale, otherwise trained unless the folder already has them.

    Args:
        request: The request.
        study: The study.
        world: The laws of the planted runs. By default they are the papers' laws.

    Raises:
        NotRun: The study has no sweeps at this scale, or the time limit was reached.
    """
    specs = study.specs(request.scale, request.first_seed)
    studies: list[Study | PlantedStudy] = []
    for spec in specs:
        if request.scale == "smoke":
            generator = np.random.default_rng([request.first_seed, *spec.name.encode()])
            studies.append(plant(spec, world or World(), generator))
        else:
            studies.append(train(request, spec))
    return SweepRuns(tuple(studies), (study.setting_at(request.scale),))


def train(request: Request, spec: SweepSpec) -> Study:
    """Train the runs of a sweep that the folder does not hold yet.

    Args:
        request: The request.
        spec: The spec of the sweep.

    Raises:
        NotRun: The time limit was reached. The next request continues the sweep.
    """
    folder = request.folder / spec.name
    study = sweep(spec, folder, max_seconds=request.max_seconds, quiet=True)
    if request.max_seconds is not None and (missing := missing_runs(folder, failures(folder))):
        raise NotRun(f"{missing} runs of {spec.name} are still to do; run the same command again to continue")
    return study


def completed_runs(study: Study) -> pd.DataFrame:
    """Return the runs of a sweep, and require that every run is complete.

    Args:
        study: The stored sweep.

    Raises:
        NotRun: A run diverged or failed.
    """
    runs = study.runs()
    if lost := int((runs.status != "completed").sum()):
        raise NotRun(f"{lost} of {len(runs)} runs diverged or failed")
    return runs
