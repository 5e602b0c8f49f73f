"""What happens to packs whose workers are elsewhere, on a cluster that does as it is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noisescale.datasets import DatasetOptions
from noisescale.sweeps import Grid, SweepSpec, sweep
from noisescale.sweeps.jobs import Job, Outcome, Retry
from noisescale.sweeps.machine import Workers
from noisescale.sweeps.plan import Pack
from noisescale.sweeps.task_executor import TaskExecutor, WorkerDied
from noisescale.sweeps.watchdog import LifeSign

MakeGrid = Callable[..., Grid]
MakeSpec = Callable[..., SweepSpec]
Answer = Callable[[Job], Outcome]


class Cluster(TaskExecutor):
    """Tasks are numbers; `places` of them are in training, the others wait; a task whose answer is None never ends."""

    def __init__(self, folder: Path, answer: Callable[[Job], Outcome | None], places: int = 8) -> None:
        super().__init__(folder, stuck_after=5.0)
        self.clock = 0.0
        self._watchdog._clock = lambda: self.clock
        self.signs = folder / "checkpoints"
        self.reply, self.places = answer, places
        self.submitted: list[Job] = []
        self.cancelled: set[int] = set()
        self.retries: list[Retry] = []
        self.together = 1

    def __enter__(self) -> Cluster:
        return self

    def most(self) -> int:
        return 2 * self.places

    def least(self) -> int:
        return self.together

    def submit(self, jobs: list[Job]) -> list[Any]:
        self.submitted += jobs
        return list(range(len(self.submitted) - len(jobs), len(self.submitted)))

    def ended(self, tasks: list[Any]) -> list[Any]:
        self.clock += 1.0
        done = []
        for task in tasks[: self.places]:
            job = self.submitted[task]
            if not (self.signs / f"{job.pack.pack_id}.alive").exists():
                LifeSign(self.signs, job.pack.pack_id).give()
            elif task in self.cancelled or self._replied(job) is not None:
                done.append(task)
        return done

    def answer(self, task: Any) -> Outcome:
        job = self.submitted[task]
        LifeSign(self.signs, job.pack.pack_id).end()
        if task in self.cancelled:
            raise WorkerDied("cancelled", by_memory=True)
        found = self.reply(job)
        assert found is not None
        return found

    def cancel(self, task: Any) -> None:
        self.cancelled.add(task)

    def _replied(self, job: Job) -> object:
        try:
            return self.reply(job)
        except WorkerDied as died:
            return died


@pytest.fixture
def jobs(tmp_path: Path, make_grid: MakeGrid) -> list[Job]:
    runs = tuple(make_grid(seeds=8).runs())
    assert len(runs) >= 16
    parts = (tmp_path / "shards", tmp_path / "kernels", tmp_path / "checkpoints")
    return [
        Job(Pack(name, runs[:size], 1.0), DatasetOptions("digits"), *parts, "cpu", False)
        for name, size in (("a", 16), ("b", 4), ("c", 1))
    ]


def done(job: Job) -> Outcome:
    return Outcome(job.pack.pack_id, len(job.pack.runs), 0, {})


def outcomes(cluster: Cluster, jobs: list[Job], stop: Callable[[], bool] = lambda: False) -> dict[str, Outcome]:
    became = [one for one in cluster.run(jobs, stop) if one is not None]
    cluster.retries = [one for one in became if isinstance(one, Retry)]
    found = [one for one in became if isinstance(one, Outcome)]
    assert len({outcome.pack_id for outcome in found}) == len(found)
    return {outcome.pack_id: outcome for outcome in found}


@pytest.mark.parametrize("held", [2, 5, 8])
def test_a_pack_that_memory_does_not_hold_is_halved_until_it_does(held: int, tmp_path: Path, jobs: list[Job]) -> None:
    def answer(job: Job) -> Outcome:
        if job.at_once > held:
            raise WorkerDied("killed", by_memory=True)
        return done(job)

    cluster = Cluster(tmp_path, answer)
    assert {name: outcome.error for name, outcome in outcomes(cluster, jobs).items()} == dict.fromkeys("abc")
    tried = [job.at_once for job in cluster.submitted if job.pack.pack_id == "a"]
    assert tried == [16, *(size for size in (16, 8, 4, 2) if 2 * size > held)]
    assert [one.at_once for one in cluster.retries if one.pack_id == "a"] == tried[1:]
    assert {one.why for one in cluster.retries} == {"killed"}


def test_a_pack_whose_worker_always_dies_fails_after_a_few_attempts(tmp_path: Path, jobs: list[Job]) -> None:
    def answer(job: Job) -> Outcome:
        if job.pack.pack_id == "c":
            raise WorkerDied("no such module", by_memory=False)
        raise WorkerDied("killed", by_memory=True)

    cluster = Cluster(tmp_path, answer)
    errors = {name: outcome.error for name, outcome in outcomes(cluster, jobs).items()}
    assert errors["a"] == "killed, 5 times, at last with 2 runs at once (pack of 16 runs)"
    assert errors["b"] == "killed, 4 times, at last with 1 runs at once (pack of 4 runs)"
    assert errors["c"] == "no such module, twice (pack of 1 runs)"
    assert len(cluster.submitted) == 5 + 4 + 2


def test_a_stuck_pack_is_handed_in_once_more_and_then_fails(tmp_path: Path, jobs: list[Job]) -> None:
    cluster = Cluster(tmp_path, lambda job: None if job.pack.pack_id == "b" else done(job))
    found = outcomes(cluster, jobs)
    assert found["a"].error is found["c"].error is None
    assert found["b"].error == "its worker gave no sign of life for 5 s, twice (pack of 4 runs)"
    assert [job.pack.pack_id for job in cluster.submitted].count("b") == 2
    assert len(cluster.cancelled) == 2


def test_what_waits_for_a_place_is_not_stuck(tmp_path: Path, jobs: list[Job]) -> None:
    LifeSign(tmp_path / "checkpoints", "b").give()  # of a worker that was killed
    begun: dict[str, float] = {}

    def slow(job: Job) -> Outcome | None:
        began = begun.setdefault(job.pack.pack_id, cluster.clock)
        LifeSign(cluster.signs, job.pack.pack_id).give(0.0, min(1.0, (cluster.clock - began) / 20))
        return done(job) if cluster.clock - began > 20 else None

    cluster = Cluster(tmp_path, slow, places=1)
    assert all(outcome.error is None for outcome in outcomes(cluster, jobs).values())
    assert not cluster.cancelled


def test_when_the_time_is_up_what_waits_is_taken_back(tmp_path: Path, jobs: list[Job]) -> None:
    def answer(job: Job) -> Outcome | None:
        return Outcome(job.pack.pack_id, 16, 0, {}, paused=True) if cluster.clock > 10 else None

    cluster = Cluster(tmp_path, answer, places=1)
    cluster._watchdog.patience = 100.0
    found = outcomes(cluster, jobs, stop=lambda: cluster.clock >= 3)
    assert all(found[name].paused for name in "ab") and cluster.cancelled == {1}
    assert "c" not in found  # it was never handed in


def test_packs_are_handed_in_together_where_single_ones_cost_as_much(tmp_path: Path, jobs: list[Job]) -> None:
    handed: list[int] = []

    class Counting(Cluster):
        def submit(self, own: list[Job]) -> list[Any]:
            handed.append(len(own))
            return super().submit(own)

    cluster = Counting(tmp_path, done, places=1)
    cluster.together = 2
    many = [replace(jobs[2], pack=replace(jobs[2].pack, pack_id=str(number))) for number in range(7)]
    assert len(outcomes(cluster, many)) == 7
    assert handed == [2, 2, 2, 1]


def test_workers_elsewhere_get_whole_paths(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places: list[Path] = []

    class Nowhere(Cluster):
        def __init__(self, workers: Workers, folder: Path, stuck_after: float) -> None:
            super().__init__(folder, done)
            places.append(folder)

        def submit(self, jobs: list[Job]) -> list[Any]:
            places.extend(path for job in jobs for path in (job.shards, job.kernels, job.checkpoints))
            return super().submit(jobs)

        def answer(self, task: Any) -> Outcome:
            raise WorkerDied("nobody is here", by_memory=False)

    monkeypatch.setattr(
        sys.modules["noisescale.sweeps.session"], "build_executor", lambda name, *place: Nowhere(*place)
    )
    monkeypatch.setattr("noisescale.sweeps.executors.find_spec", lambda library: True)  # whether Ray is there or not
    study = sweep(make_spec(), "out", executor="ray", device="cuda", quiet=True)
    assert len(study.finished()) == 0
    assert len(places) >= 4 and all(path.is_absolute() for path in places)
