"""The sweeps of a GPU, planted: each claim that has some gets its statistics from them, and no support from nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noisescale.claims import CLAIMS, Evidence, Request, planted, studies, verify
from noisescale.claims.claim import NotRun
from noisescale.claims.criterion import joint_outcome
from noisescale.claims.gpu_studies import GPU_STUDIES
from noisescale.claims.planted import PlantedStudy, World, plant
from noisescale.sweeps import SweepSpec

# Judged by what sweeps measure of weights and curvature, which no planted study has: `test_gpu_measurements.py`.
MEASURED = ["C2.3", "C2.4", "C2.6", "C4.3"]
AT_GPU = [claim.id for claim in CLAIMS.values() if claim.at_gpu and claim.id not in MEASURED]
# The same batch is best at every width, and no width is better than another.
NO_WIDTH = World(slope=0.0, by="batch", gain=0.0)
# Noise does nothing, and every rate is stable.
NOTHING = World(curvature=0.0, gain=0.0, edge=1e9)
# Best are ε/B = 1/256 at equal epochs and ten times that at equal steps; the largest batches cannot reach it.
EQUAL_EPOCHS = World(best=8.74, edge=8.0)
EQUAL_STEPS = World(best=11.04, edge=3.0, loss_below=6.0)


def by_name(parts: dict[str, World], rest: World) -> Callable[[str], World]:
    """The world of a sweep, by a part of its name."""
    return lambda name: next((world for part, world in parts.items() if part in name), rest)


def everywhere(world: World) -> Callable[[str], World]:
    """The same world for all sweeps."""
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
    # In the standard parameterization the claim is that nothing moves: the best batch falls as 1/width.
    "C1.4": everywhere(World(by="batch")),
    "C1.6": by_name({"standard": World(edge_slope=-0.5)}, World(edge_slope=0.5)),
    "C1.7": everywhere(World(edge_slope=1.5)),
    "C4.7": everywhere(World(schedule_effect=0.02)),
} | {id: everywhere(NO_WIDTH) for id in ("C1.3", "C1.5", "C1.8", "C1.9")}


def evidence_of(
    id: str, world_of: Callable[[str], World], draw: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Evidence:
    """Of a claim at the scale of a GPU, with its sweeps planted in place of trained."""

    def instead(spec: SweepSpec, request: Request) -> PlantedStudy:
        world = world_of(spec.name)
        if world.best == World().best:  # the peak belongs in the middle of the ladders, wherever they are
            cells = planted._cells(spec)
            away = world.slope * np.log(cells.width.to_numpy(float) / 64)
            world = replace(world, best=float(np.median(planted._place(cells, world) - away)))
        return plant(spec, world, np.random.default_rng([draw, *spec.name.encode()]))

    monkeypatch.setattr(studies, "trained", instead)
    experiment = CLAIMS[id].experiment
    assert experiment is not None
    request = Request("gpu", 1000 * draw, folder)
    evidence = experiment(request)
    assert request.used
    return evidence


@pytest.mark.parametrize("name", GPU_STUDIES)
def test_every_sweep_of_a_gpu_is_a_spec(name: str) -> None:
    study = GPU_STUDIES[name]
    assert study.setting and study.differs
    names = [spec.name for spec in study.build(1000)]
    assert all(own.startswith("gpu-") for own in names)
    assert all(min(spec.seeds) == 1000 for spec in study.build(1000))


def test_sweeps_of_a_gpu_stand_in_for_those_of_a_laptop_or_are_measured() -> None:
    alone = {"normalized_networks", "normalized_histories", "curvature_over_batches"}
    assert {name for name in GPU_STUDIES if not callable(getattr(studies, name, None))} == alone


@pytest.mark.parametrize("id", AT_GPU)
def test_planted_effects_are_judged(id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the sweeps that an experiment asks for are there, and what it plants is seen.

    Three seeds, as the wide networks have, do not support every one of several statistics: those are not contradicted.
    """
    evidence = evidence_of(id, EFFECTS[id], 0, tmp_path, monkeypatch)
    assert evidence.statistics and all(one.estimate.bounded for one in evidence.statistics)
    outcome = joint_outcome(evidence.statistics)
    if id.startswith("C1"):
        assert outcome == "supported", [one.estimate for one in evidence.statistics]
    else:
        assert outcome != "contradicted", [(one.name, str(one.estimate), one.outcome) for one in evidence.statistics]


@pytest.mark.parametrize("id", AT_GPU)
def test_planted_nulls_are_not_supported(id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that grows with width would support them."""
    found = []
    for draw in range(2):
        with contextlib.suppress(NotRun):  # the best of a ladder is its end: no evidence
            evidence = evidence_of(id, NULLS.get(id, everywhere(NOTHING)), draw, tmp_path, monkeypatch)
            found.append(joint_outcome(evidence.statistics))
            # The residual networks alone: the convolutional ones must not be what saves the claim.
            if id == "C1.8":
                found.append(joint_outcome(evidence.statistics[:1]))
    assert "supported" not in found


@pytest.mark.parametrize("id", [claim.id for claim in CLAIMS.values() if not claim.at_gpu])
def test_claims_without_sweeps_for_a_gpu_are_not_run_there(id: str, tmp_path: Path) -> None:
    ((verdict, evidence),) = verify(id, scale="gpu", out=tmp_path)
    assert (verdict.verdict, evidence) == ("not run", None) and "at this scale" in verdict.note


def test_at_gpu_scale_the_verdict_says_what_differs_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(spec: SweepSpec, request: Request) -> None:
        raise NotRun("7 runs are still to do")

    monkeypatch.setattr(studies, "trained", stop)
    ((verdict, evidence),) = verify("C1.3", scale="gpu", out=tmp_path)
    assert evidence is None and verdict.verdict == "not run"
    assert "7 runs" in verdict.note and "Fashion-MNIST" in verdict.differs
