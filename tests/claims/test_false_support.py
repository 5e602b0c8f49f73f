"""How often planted studies without an effect support a claim: at most 5%, so 16 of 200 draws, or 8%.

Draws without evidence do not count, so that a claim does not look better if it refuses most of its nulls. The null of
C4.3 is a curvature that depends only on loss and time. It is in `test_sharpness.py`.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from noisescale.claims import CLAIMS, NotRun, Request, World, joint_outcome, law_statistics, study
from noisescale.claims.experiments import stable_rates
from noisescale.claims.planted import PlantedStudy, plant
from noisescale.laws import Fit, fit
from noisescale.sweeps import SweepSpec

PLANTED = [id for id, claim in CLAIMS.items() if "planted" in inspect.getsource(inspect.getmodule(claim.experiment))]
# Whole fits take the longest per draw, because they fit studies of thousands of runs. A draw of the second group takes
# tenths of a second, and a draw of the other claims hundredths.
WHOLE_FITS = ["C1.1", "C1.3", "C1.4", "C1.5", "C1.6", "C1.7", "C1.8", "C1.9"]
TENTHS = ["C1.2", "C1.11", "C4.1", "C4.4"]
QUICK = [id for id in PLANTED if id not in WHOLE_FITS + TENTHS]
# The deciding statistics of these claims do not need the ladder of stable rates, which takes half of a draw's time.
WITHOUT_LADDER = ["C1.11", *(id for id in WHOLE_FITS if id not in ("C1.6", "C1.7"))]
# Beginnings of the names of studies whose statistics do not decide. They are planted and fitted only once.
NOT_DECIDING = {
    "C1.2": ("equal-time", "equal-epochs"), "C1.3": ("over-widths-at",), "C1.4": ("over-widths",),
    "C1.6": ("squared-error",),
}  # fmt: skip
# Largest number of draws for each draw with evidence.
PATIENCE = 10


def skip_what_does_not_decide(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted_once: dict[str, PlantedStudy] = {}
    fits: dict[int, Fit] = {}

    def plant_or_reuse(spec: SweepSpec, world: World, generator: np.random.Generator) -> PlantedStudy:
        if name in WITHOUT_LADDER:
            no_ladder = spec.stability.model_copy(update={"seeds": 0})
            spec = spec.model_copy(update={"stability": no_ladder})
        if not spec.name.startswith(NOT_DECIDING.get(name, ("none",))):
            return plant(spec, world, generator)
        if spec.name not in planted_once:
            planted_once[spec.name] = plant(spec, world, generator)
        return planted_once[spec.name]

    def fit_or_reuse(planted: PlantedStudy) -> Fit:
        if not any(planted is reused for reused in planted_once.values()):
            return fit(planted)
        if id(planted) not in fits:
            fits[id(planted)] = fit(planted)
        return fits[id(planted)]

    monkeypatch.setattr(study, "plant", plant_or_reuse)
    for module in (law_statistics, stable_rates):
        monkeypatch.setattr(module, "fit", fit_or_reuse)


def supported(name: str, draws: int, folder: Path) -> tuple[int, int]:
    """Count the planted nulls that support a claim, and the draws with evidence. Every draw has other seeds."""
    experiment = CLAIMS[name].experiment
    assert experiment is not None
    supports = judged = 0
    for draw in range(PATIENCE * draws):
        try:
            evidence = experiment(Request("smoke", 1000 * draw, folder, null=True))
        except NotRun:  # without an effect, the best cell of a ladder is often its end
            continue
        assert evidence.provenance.planted
        judged += 1
        supports += joint_outcome(evidence.statistics) == "supported"
        if judged == draws:
            break
    return supports, judged


def test_most_claims_can_be_planted() -> None:
    assert set(WHOLE_FITS + TENTHS) < set(PLANTED) and len(PLANTED) == 24


@pytest.mark.short
@pytest.mark.parametrize(("name", "draws"), [*((name, 20) for name in QUICK), *((name, 6) for name in TENTHS)])
def test_few_nulls_are_supported(name: str, draws: int, tmp_path: Path) -> None:
    # At 5%, more than 4 of 20 or more than 2 of 6 would occur less than once in a hundred.
    supports, judged = supported(name, draws, tmp_path)
    assert judged >= draws / 2
    assert supports <= binom.ppf(0.99, judged, 0.05)


@pytest.mark.full
@pytest.mark.parametrize("name", PLANTED)
def test_few_nulls_are_supported_in_the_long_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_what_does_not_decide(name, monkeypatch)
    supports, judged = supported(name, 200, tmp_path)
    assert judged >= 50
    # At most 16 of 200 draws, or 8%. With fewer draws, the limit is equally improbable.
    assert supports <= binom.ppf(0.97, judged, 0.05)
