"""Training of packs (runs that train together) on other machines, with a simulated cluster."""

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
from noisescale.sweeps.watchdog import AliveFile

MakeGrid = Callable[..., Grid]
MakeSpec = Callable[..., SweepSpec]
Answer = Callable[[Job], Outcome]


class Cluster(TaskExecutor):
    """A simulated cluster. A task is a number. The first `slots` unfinished tasks train, and the other tasks wait.

    A task whose outcome is None never ends.
    """

    def __init__(self, folder: Path, outcome: Callable[[Job], Outcome | None], slots: int = 8) -> None:
        super().__init__(folder, stuck_after=5.0)
        self.clock = 0.0
        self._watchdog._clock = lambda: self.clock
        self.alive_files = folder / "checkpoints"
        self.outcome_of, self.slots = outcome, slots
        self.submitted: list[Job] = []
        self.cancelled: set[int] = set()
        self.retries: list[Retry] = []
        self.tasks_together = 1

    def __enter__(self) -> Cluster:
        return self

    def max_tasks(self) -> int:
        return 2 * self.slots

    def min_tasks(self) -> int:
        return self.tasks_together

    def submit(self, jobs: list[Job]) -> list[Any]:
        self.submitted += jobs
        return list(range(len(self.submitted) - len(jobs), len(self.submitted)))

    def wait_for_ended(self, tasks: list[Any]) -> list[Any]:
        self.clock += 1.0
        done = []
        for task in tasks[: self.slots]:
            job = self.submitted[task]
            if not (self.alive_files / f"{job.pack.pack_id}.alive").exists():
                AliveFile(self.alive_files, job.pack.pack_id).write()
            elif task in self.cancelled or self._has_outcome(job) is not None:
                done.append(task)
        return done

    def outcome(self, task: Any) -> Outcome:
        job = self.submitted[task]
        AliveFile(self.alive_files, job.pack.pack_id).remove()
        if task in self.cancelled:
            raise WorkerDied("cancelled", memory_suspected=True)
        outcome = self.outcome_of(job)
        assert outcome is not None
        return outcome

    def cancel(self, task: Any) -> None:
        self.cancelled.add(task)

    def _has_outcome(self, job: Job) -> object:
        try:
            return self.outcome_of(job)
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
    events = list(cluster.run(jobs, stop))
    cluster.retries = [event for event in events if isinstance(event, Retry)]
    ended = [event for event in events if isinstance(event, Outcome)]
    assert len({outcome.pack_id for outcome in ended}) == len(ended)
    return {outcome.pack_id: outcome for outcome in ended}


@pytest.mark.parametrize("limit", [2, 5, 8])
def test_a_pack_that_does_not_fit_in_memory_is_halved_until_it_does(
    limit: int, tmp_path: Path, jobs: list[Job]
) -> None:
    def outcome(job: Job) -> Outcome:
        if job.runs_at_once > limit:
            raise WorkerDied("killed", memory_suspected=True)
        return done(job)

    cluster = Cluster(tmp_path, outcome)
    assert {name: outcome.error for name, outcome in outcomes(cluster, jobs).items()} == dict.fromkeys("abc")
    tried = [job.runs_at_once for job in cluster.submitted if job.pack.pack_id == "a"]
    assert tried == [16, *(size for size in (16, 8, 4, 2) if 2 * size > limit)]
    assert [retry.runs_at_once for retry in cluster.retries if retry.pack_id == "a"] == tried[1:]
    assert {retry.reason for retry in cluster.retries} == {"killed"}


def test_a_pack_whose_worker_always_dies_fails_after_a_few_attempts(tmp_path: Path, jobs: list[Job]) -> None:
    def outcome(job: Job) -> Outcome:
        if job.pack.pack_id == "c":
            raise WorkerDied("no such module", memory_suspected=False)
        raise WorkerDied("killed", memory_suspected=True)

    cluster = Cluster(tmp_path, outcome)
    errors = {name: outcome.error for name, outcome in outcomes(cluster, jobs).items()}
    assert errors["a"] == "killed, 5 times, at last with 2 runs at once (pack of 16 runs)"
    assert errors["b"] == "killed, 4 times, at last with 1 runs at once (pack of 4 runs)"
    assert errors["c"] == "no such module, twice (pack of 1 runs)"
    assert len(cluster.submitted) == 5 + 4 + 2


def test_a_stuck_pack_is_submitted_once_more_and_then_fails(tmp_path: Path, jobs: list[Job]) -> None:
    cluster = Cluster(tmp_path, lambda job: None if job.pack.pack_id == "b" else done(job))
    ended = outcomes(cluster, jobs)
    assert ended["a"].error is ended["c"].error is None
    assert ended["b"].error == "its worker reported no progress for 5 s, twice (pack of 4 runs)"
    assert [job.pack.pack_id for job in cluster.submitted].count("b") == 2
    assert len(cluster.cancelled) == 2


def test_a_suspended_pack_is_not_stuck(tmp_path: Path, jobs: list[Job]) -> None:
    class Suspending(Cluster):
        def is_suspended(self, task: Any) -> bool:
            return self.submitted[task].pack.pack_id == "b" and 3 <= self.clock < 40

    def outcome(job: Job) -> Outcome | None:
        # The pack is silent while it is suspended, and is done three seconds later.
        return done(job) if job.pack.pack_id != "b" or cluster.clock > 43 else None

    cluster = Suspending(tmp_path, outcome)
    assert all(ended.error is None for ended in outcomes(cluster, jobs).values())
    assert not cluster.cancelled and cluster.clock > 43


def test_a_pack_that_stays_silent_after_its_suspension_is_stuck(tmp_path: Path, jobs: list[Job]) -> None:
    class Suspending(Cluster):
        def is_suspended(self, task: Any) -> bool:
            return self.clock < 40

    cluster = Suspending(tmp_path, lambda job: None if job.pack.pack_id == "b" else done(job))
    assert "no progress for 5 s, twice" in str(outcomes(cluster, jobs)["b"].error)
    assert cluster.clock > 45


def test_a_waiting_pack_is_not_stuck(tmp_path: Path, jobs: list[Job]) -> None:
    AliveFile(tmp_path / "checkpoints", "b").write()  # the last report of a worker that was killed
    started: dict[str, float] = {}

    def slow(job: Job) -> Outcome | None:
        start = started.setdefault(job.pack.pack_id, cluster.clock)
        AliveFile(cluster.alive_files, job.pack.pack_id).write(0.0, min(1.0, (cluster.clock - start) / 20))
        return done(job) if cluster.clock - start > 20 else None

    cluster = Cluster(tmp_path, slow, slots=1)
    assert all(outcome.error is None for outcome in outcomes(cluster, jobs).values())
    assert not cluster.cancelled


def test_at_the_deadline_waiting_packs_are_cancelled(tmp_path: Path, jobs: list[Job]) -> None:
    def outcome(job: Job) -> Outcome | None:
        return Outcome(job.pack.pack_id, 16, 0, {}, paused=True) if cluster.clock > 10 else None

    cluster = Cluster(tmp_path, outcome, slots=1)
    cluster._watchdog.patience = 100.0
    ended = outcomes(cluster, jobs, stop=lambda: cluster.clock >= 3)
    assert all(ended[name].paused for name in "ab") and cluster.cancelled == {1}
    assert "c" not in ended  # it was never submitted


def test_packs_are_submitted_in_batches(tmp_path: Path, jobs: list[Job]) -> None:
    sizes: list[int] = []

    class Counting(Cluster):
        def submit(self, jobs: list[Job]) -> list[Any]:
            sizes.append(len(jobs))
            return super().submit(jobs)

    cluster = Counting(tmp_path, done, slots=1)
    cluster.tasks_together = 2
    many = [replace(jobs[2], pack=replace(jobs[2].pack, pack_id=str(number))) for number in range(7)]
    assert len(outcomes(cluster, many)) == 7
    assert sizes == [2, 2, 2, 1]


def test_remote_workers_get_absolute_paths(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths: list[Path] = []

    class Unreachable(Cluster):
        def __init__(self, workers: Workers, folder: Path, stuck_after: float) -> None:
            super().__init__(folder, done)
            paths.append(folder)

        def submit(self, jobs: list[Job]) -> list[Any]:
            paths.extend(path for job in jobs for path in (job.shards, job.kernels, job.checkpoints))
            return super().submit(jobs)

        def outcome(self, task: Any) -> Outcome:
            raise WorkerDied("no worker here", memory_suspected=False)

    monkeypatch.setattr(
        sys.modules["noisescale.sweeps.session"], "build_executor", lambda name, *options: Unreachable(*options)
    )
    monkeypatch.setattr("noisescale.sweeps.executors.find_spec", lambda library: True)  # Ray need not be installed
    study = sweep(make_spec(), "out", executor="ray", device="cuda", quiet=True)
    assert len(study.finished()) == 0
    assert len(paths) >= 4 and all(path.is_absolute() for path in paths)
