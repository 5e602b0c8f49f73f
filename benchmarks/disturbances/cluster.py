"""Kill workers and remove nodes of a Ray cluster on this machine."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

from disturbances.fault import NotPossible, Report
from disturbances.processes import descendants, wait_until, with_command
from disturbances.subject import TIMEOUT, Outcome, Subject, wait_for_exit
from noisescale.sweeps import failures

# Ray gives this process name to a worker that trains a pack.
_TASK = "ray::train_elsewhere"
# Size of Ray's smallest object store, in bytes. Packs do not use the store.
_STORE = 80_000_000


def worker_killed(subject: Subject, generator: random.Random) -> Report:
    """Send SIGKILL to a Ray worker while it trains, twice."""
    report = Report("SIGKILL to a Ray worker that trains", 0)
    with _cluster() as (_, environment):
        driver = subject.start("--executor", "ray", environment=environment)
        for _ in range(2):
            at_work = wait_until(lambda: driver.poll() is not None or bool(_tasks()), TIMEOUT)
            time.sleep(generator.uniform(0.0, 0.5))
            subject.record_finished()
            if at_work and (tasks := _tasks()):
                os.kill(generator.choice(tasks), signal.SIGKILL)
                report.times += 1
            subject.wait_for_packs(2, driver)
        _check_end(report, subject, wait_for_exit(driver))
    return report


def node_removed(subject: Subject, generator: random.Random) -> Report:
    """Remove one of two nodes, without notice, while its worker trains."""
    report = Report("one of two Ray nodes removed in mid-sweep", 0)
    with _cluster() as (cluster, environment):
        driver = subject.start("--executor", "ray", environment=environment)
        running = subject.wait_for_packs(1, driver)
        at_work = wait_until(lambda: driver.poll() is not None or len(_tasks()) == 2, TIMEOUT)
        subject.record_finished()
        if running and at_work and driver.poll() is None:
            cluster.remove_node(generator.choice(list(cluster.worker_nodes)), allow_graceful=False)
            report.times += 1
        _check_end(report, subject, wait_for_exit(driver))
    return report


def _check_end(report: Report, subject: Subject, outcome: Outcome) -> None:
    report.check("the driver continues and completes by itself", report.times > 0 and outcome.code == 0)
    report.check("no pack counts as failed", failures(subject.out) == {})


def _tasks() -> list[int]:
    """List the busy workers of the cluster that this process started, and of no other cluster."""
    return with_command(descendants(os.getpid()), _TASK)


@contextlib.contextmanager
def _cluster() -> Iterator[tuple[Any, dict[str, str]]]:
    """Start a head without CPUs and two nodes with one CPU. Yield the cluster and the environment of its driver."""
    try:
        from ray.cluster_utils import Cluster
    except ImportError:
        raise NotPossible("the extra `ray` is not installed") from None
    quiet = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    cluster: Any = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE},
    )
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=_STORE)
        yield cluster, {**quiet, "RAY_ADDRESS": cluster.address}
    finally:
        cluster.shutdown()
