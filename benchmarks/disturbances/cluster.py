"""A Ray cluster of this machine, whose workers are killed and whose nodes go away."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

from disturbances.fault import NotHere, Report
from disturbances.processes import descendants, wait_until, with_command
from disturbances.subject import PATIENCE, Ended, Subject, ended
from noisescale.sweeps import failures

# What Ray names a worker that trains a pack.
_TASK = "ray::train_elsewhere"
# The least that Ray takes for its object store; packs send nothing through it.
_STORE = 80_000_000


def worker_killed(subject: Subject, chance: random.Random) -> Report:
    """SIGKILL of a Ray worker while it trains; twice."""
    report = Report("SIGKILL of a Ray worker that trains", 0)
    with _cluster() as (_, environment):
        driver = subject.start("--executor", "ray", environment=environment)
        for _ in range(2):
            at_work = wait_until(lambda: driver.poll() is not None or bool(_tasks()), PATIENCE)
            time.sleep(chance.uniform(0.0, 0.5))
            subject.remember()
            if at_work and (tasks := _tasks()):
                os.kill(chance.choice(tasks), signal.SIGKILL)
                report.times += 1
            subject.wait_for_packs(2, driver)
        _check_end(report, subject, ended(driver))
    return report


def node_removed(subject: Subject, chance: random.Random) -> Report:
    """One of two nodes goes away, without notice, while its worker trains."""
    report = Report("one of two Ray nodes removed in mid-sweep", 0)
    with _cluster() as (cluster, environment):
        driver = subject.start("--executor", "ray", environment=environment)
        going = subject.wait_for_packs(1, driver)
        at_work = wait_until(lambda: driver.poll() is not None or len(_tasks()) == 2, PATIENCE)
        subject.remember()
        if going and at_work and driver.poll() is None:
            cluster.remove_node(chance.choice(list(cluster.worker_nodes)), allow_graceful=False)
            report.times += 1
        _check_end(report, subject, ended(driver))
    return report


def _check_end(report: Report, subject: Subject, how: Ended) -> None:
    report.check("the driver goes on and completes by itself", report.times > 0 and how.code == 0)
    report.check("no pack counts as failed", failures(subject.out) == {})


def _tasks() -> list[int]:
    """Workers of the cluster that was started here, and of no other."""
    return with_command(descendants(os.getpid()), _TASK)


@contextlib.contextmanager
def _cluster() -> Iterator[tuple[Any, dict[str, str]]]:
    """A head that trains nothing and two nodes of one CPU, and the environment of a driver that uses them."""
    try:
        from ray.cluster_utils import Cluster
    except ImportError:
        raise NotHere("the extra `ray` is not installed") from None
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
