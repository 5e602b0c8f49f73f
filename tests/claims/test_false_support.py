"""How often planted studies without an effect are called supported: 5 % at most, so 16 of 200 draws, or 8 %.

Draws without evidence count for nothing: a claim that refuses most of its nulls is not the better for it. That of C4.3,
curvature of loss and time alone, is in `test_sharpness.py`.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from noisescale.claims import CLAIMS, Request, ladders, laws_of_width, studies
from noisescale.claims.claim import NotRun
from noisescale.claims.criterion import joint_outcome
from noisescale.claims.planted import PlantedStudy, World, plant
from noisescale.laws.fitting import fit
from noisescale.laws.results import Fit
from noisescale.sweeps import SweepSpec

PLANTED = [id for id, claim in CLAIMS.items() if "planted" in inspect.getsource(inspect.getmodule(claim.experiment))]
# These fit studies of thousands of runs, tenths of a second a draw; the others take hundredths.
WHOLE_FITS = ["C1.1", "C1.3", "C1.4", "C1.5", "C1.6", "C1.7", "C1.8", "C1.9"]
TENTHS = ["C1.2", "C1.11", "C4.1", "C4.4"]
QUICK = [id for id in PLANTED if id not in WHOLE_FITS + TENTHS]
# What decides these asks nothing of the ladder of stable rates, and is the same without: half of a draw's time.
WITHOUT_LADDER = ["C1.11", *(id for id in WHOLE_FITS if id not in ("C1.6", "C1.7"))]
# Studies whose statistics stand beside and decide nothing, by the beginning of their names: planted and fitted once.
BESIDE = {
    "C1.2": ("equal-time", "equal-epochs"), "C1.3": ("over-widths-at",), "C1.4": ("over-widths",),
    "C1.6": ("squared-error",),
}  # fmt: skip
# Draws for each one with evidence, at most.
PATIENCE = 10


def leave_out_what_does_not_decide(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    beside: dict[str, PlantedStudy] = {}
    fits: dict[int, Fit] = {}

    def planted(spec: SweepSpec, world: World, generator: np.random.Generator) -> PlantedStudy:
        if name in WITHOUT_LADDER:
            none = spec.stability.model_copy(update={"seeds": 0})
            spec = spec.model_copy(update={"stability": none})
        if not spec.name.startswith(BESIDE.get(name, ("none",))):
            return plant(spec, world, generator)
        if spec.name not in beside:
            beside[spec.name] = plant(spec, world, generator)
        return beside[spec.name]

    def fitted(study: PlantedStudy) -> Fit:
        if not any(study is own for own in beside.values()):
            return fit(study)
        if id(study) not in fits:
            fits[id(study)] = fit(study)
        return fits[id(study)]

    monkeypatch.setattr(studies, "plant", planted)
    for module in (ladders, laws_of_width):
        monkeypatch.setattr(module, "fit", fitted)


def supported(name: str, wanted: int, folder: Path) -> tuple[int, int]:
    """How many planted nulls are supported, and of how many with evidence, each from other seeds."""
    experiment = CLAIMS[name].experiment
    assert experiment is not None
    found = judged = 0
    for draw in range(PATIENCE * wanted):
        request = Request("smoke", 1000 * draw, folder, null=True)
        try:
            evidence = experiment(request)
        except NotRun:  # without an effect the best of a ladder is often its end
            continue
        finally:
            assert request.planted
        judged += 1
        found += joint_outcome(evidence.statistics) == "supported"
        if judged == wanted:
            break
    return found, judged


@pytest.mark.short
@pytest.mark.parametrize(("name", "draws"), [*((name, 40) for name in QUICK), *((name, 12) for name in TENTHS)])
def test_few_nulls_are_supported(name: str, draws: int, tmp_path: Path) -> None:
    # At 5 % more than 6 of 40, and more than 3 of 12, would be less than one in a hundred.
    found, judged = supported(name, draws, tmp_path)
    assert judged >= draws / 2
    assert found <= binom.ppf(0.99, judged, 0.05)


@pytest.mark.full
@pytest.mark.parametrize("name", PLANTED)
def test_few_nulls_are_supported_in_the_long_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_does_not_decide(name, monkeypatch)
    found, judged = supported(name, 200, tmp_path)
    assert judged >= 50
    # 16 of 200, or 8 %; as improbable a number where there are fewer with evidence.
    assert found <= binom.ppf(0.97, judged, 0.05)
