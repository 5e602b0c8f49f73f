"""Claims at GPU scale with planted runs: a planted effect is found, and a planted null is not supported."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noisescale.claims import (
    CLAIMS,
    ClaimStudy,
    Evidence,
    NotRun,
    Request,
    World,
    joint_outcome,
    planted,
    study,
    verify,
)
from noisescale.claims import experiments as experiments_package
from noisescale.claims import studies as studies_package
from noisescale.claims.planted import PlantedStudy, plant
from noisescale.sweeps import SweepSpec

# These claims need measurements of weights or curvature. Planted studies have no such measurements, so these claims are
# in `test_gpu_measurements.py`.
MEASURED = ["C2.3", "C2.4", "C2.6", "C4.3"]
AT_GPU = [claim.id for claim in CLAIMS.values() if claim.at_gpu and claim.id not in MEASURED]
# The same batch is best at every width, and no width is better than another.
NO_WIDTH = World(slope=0.0, by="batch", gain=0.0)
# Noise has no effect, and every rate is stable.
NOTHING = World(curvature=0.0, gain=0.0, edge=1e9)
# The best ε/B is 1/256 at equal epochs and 10/256 at equal steps. The largest batches cannot reach it.
EQUAL_EPOCHS = World(best=8.74, edge=8.0)
EQUAL_STEPS = World(best=11.04, edge=3.0, loss_below=6.0)


def all_studies() -> list[ClaimStudy]:
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for package in (studies_package, experiments_package)
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return list(dict.fromkeys(value for module in modules for value in vars(module).values() if is_study(value)))


def is_study(value: object) -> bool:
    return isinstance(value, ClaimStudy)


WITH_GPU = [item for item in all_studies() if item.gpu is not None]


def by_name(parts: dict[str, World], default: World) -> Callable[[str], World]:
    """Choose the world of a sweep by a part of its name."""
    return lambda name: next((world for part, world in parts.items() if part in name), default)


def everywhere(world: World) -> Callable[[str], World]:
    """Use one world for all sweeps."""
    return lambda name: world


EFFECTS = {
    id: everywhere(World()) for id in AT_GPU
} | {
    "C1.6": by_name({"standard": World(edge_slope=-1.0)}, World(edge_slope=0.0)),
    "C1.7": everywhere(World(edge=8.0)),
    "C1.8": by_name({"convolutional": World(slope=0.0)}, World()),
    "C1.9": by_name({"standard": World()}, World(height=0.59)),
    "C3.1": everywhere(EQUAL_EPOCHS),
    "C3.2": everywhere(EQUAL_EPOCHS),
    "C3.3": everywhere(EQUAL_STEPS),
}  # fmt: skip
NULLS = {
    # The claim is that nothing moves in the standard parameterization. In this null, the best batch falls as 1/width.
    "C1.4": everywhere(World(by="batch")),
    "C1.6": by_name({"standard": World(edge_slope=-0.5)}, World(edge_slope=0.5)),
    "C1.7": everywhere(World(edge_slope=1.5)),
    "C4.7": everywhere(World(schedule_effect=0.02)),
} | {id: everywhere(NO_WIDTH) for id in ("C1.3", "C1.5", "C1.8", "C1.9")}


def evidence_of(
    id: str, world_of: Callable[[str], World], draw: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Evidence:
    """Run a claim at GPU scale with its sweeps planted instead of trained."""

    def plant_instead(request: Request, spec: SweepSpec) -> PlantedStudy:
        world = world_of(spec.name)
        if world.best == World().best:  # the peak should lie in the middle of the ladders
            cells = planted._cells(spec)
            slope = world.slope * np.log(cells.width.to_numpy(float) / 64)
            world = replace(world, best=float(np.median(planted._position(cells, world) - slope)))
        return plant(spec, world, np.random.default_rng([draw, *spec.name.encode()]))

    monkeypatch.setattr(study, "train", plant_instead)
    claim = CLAIMS[id]
    assert claim.experiment is not None
    evidence = claim.experiment(Request("gpu", 1000 * draw, folder))
    # The row of a claim names exactly the studies that its experiment obtains.
    names = [spec.name for decisive in claim.gpu_studies for spec in decisive.specs("gpu", 0)]
    assert list(evidence.provenance.planted) == names
    first = claim.gpu_studies[0].gpu
    assert first is not None and evidence.setting.startswith(first.setting)
    return evidence


@pytest.mark.parametrize("item", WITH_GPU, ids=lambda item: item.specs("gpu", 0)[0].name)
def test_every_sweep_of_a_gpu_is_a_spec(item: ClaimStudy) -> None:
    assert item.gpu is not None and item.gpu.setting and item.gpu.differs
    specs = item.specs("gpu", 1000)
    assert all(spec.name.startswith("gpu-") for spec in specs)
    assert all(min(spec.seeds) == 1000 for spec in specs)


def test_every_study_of_a_gpu_decides_a_claim() -> None:
    assert len(WITH_GPU) == 14
    used = [item for claim in CLAIMS.values() for item in claim.gpu_studies]
    assert all(item in used for item in WITH_GPU)
    only_at_gpu = {item.specs("gpu", 0)[0].name for item in WITH_GPU if item.laptop is None}
    assert only_at_gpu == {"gpu-normalized-networks", "gpu-normalized-histories", "gpu-curvature-over-batches"}


@pytest.mark.parametrize("id", AT_GPU)
def test_planted_effects_are_judged(id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sweep that an experiment obtains exists, and the planted effect is detected.

    Wide networks have only three seeds. Their claims may stay open, but they must not be contradicted.
    """
    evidence = evidence_of(id, EFFECTS[id], 0, tmp_path, monkeypatch)
    assert evidence.statistics and all(statistic.estimate.bounded for statistic in evidence.statistics)
    outcome = joint_outcome(evidence.statistics)
    report = [(statistic.name, str(statistic.estimate), statistic.outcome) for statistic in evidence.statistics]
    if id.startswith("C1"):
        assert outcome == "supported", report
    else:
        assert outcome != "contradicted", report


@pytest.mark.full
@pytest.mark.parametrize("id", AT_GPU)
def test_planted_nulls_are_not_supported(id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A null must not be supported only because a unit grows with width."""
    outcomes = []
    for draw in range(2):
        with contextlib.suppress(NotRun):  # no evidence, because the best cell of a ladder is its end
            evidence = evidence_of(id, NULLS.get(id, everywhere(NOTHING)), draw, tmp_path, monkeypatch)
            outcomes.append(joint_outcome(evidence.statistics))
            # The residual networks alone must not support the claim, whatever the convolutional networks do.
            if id == "C1.8":
                outcomes.append(joint_outcome(evidence.statistics[:1]))
    assert "supported" not in outcomes


@pytest.mark.parametrize("id", [claim.id for claim in CLAIMS.values() if not claim.at_gpu])
def test_claims_without_sweeps_for_a_gpu_do_not_run_there(id: str, tmp_path: Path) -> None:
    ((verdict, evidence),) = verify(id, scale="gpu", out=tmp_path)
    assert (verdict.verdict, evidence) == ("not run", None) and "at this scale" in verdict.note


def test_at_gpu_scale_the_verdict_states_the_differences_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(request: Request, spec: SweepSpec) -> None:
        raise NotRun("7 runs are still to do")

    monkeypatch.setattr(study, "train", stop)
    ((verdict, evidence),) = verify("C1.3", scale="gpu", out=tmp_path)
    assert evidence is None and verdict.verdict == "not run"
    assert "7 runs" in verdict.note and "Fashion-MNIST" in verdict.differs
