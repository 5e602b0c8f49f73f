"""Training of packs (runs that train together) as Ray tasks, on a cluster or on this machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from socket import create_connection
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, WorkerCrashedError

from noisescale.errors import BadInput
from noisescale.sweeps.jobs import Job, Outcome
from noisescale.sweeps.machine import Workers
from noisescale.sweeps.remote import to_wall_clock, train_elsewhere
from noisescale.sweeps.task_executor import TaskExecutor, WorkerDied

# Number of times that Ray retries a pack: after its worker or node died, and after its node ran out of memory. If the
# memory still does not suffice, this package trains half as many runs at once.
_RETRIES, _MEMORY_RETRIES = 3, 1
# Number of submitted tasks per task in training, so that every worker has a next task when it is done.
_QUEUE_FACTOR = 2
# Seconds within which the head of a cluster must accept a connection.
_CONNECT_SECONDS = 10.0


class RayExecutor(TaskExecutor):
    """Trains each pack as one Ray task.

    The environment variable RAY_ADDRESS names the cluster. Without it a cluster starts on this machine, without a
    dashboard, and stops at the end.

    Args:
        workers: Number of packs at once (for a cluster that starts on this machine), CPUs per pack, and device. A pack
            gets at most as many CPUs as the smallest node has. With the device "cuda" it gets one GPU.
        folder: The folder of the sweep. Every node must see it under the same path.
        stuck_after: Seconds without a progress report after which a task is cancelled.

    Raises:
        BadInput: No cluster answers at RAY_ADDRESS.
    """

    def __init__(self, workers: Workers, folder: Path, stuck_after: float) -> None:
        super().__init__(folder, stuck_after)
        if not ray.is_initialized() and (address := os.environ.get("RAY_ADDRESS")):
            _check_address(address)
        self.workers, self.threads, self.device = workers.count, workers.threads, workers.device
        self._started_cluster = False

    def __enter__(self) -> RayExecutor:
        """Connect to the cluster, or start one.

        Raises:
            BadInput: There is no cluster, or none of its nodes has the resources of a pack.
        """
        # By default Ray restarts a task that does not fit in its node's memory forever.
        os.environ.setdefault("RAY_task_oom_retries", str(_MEMORY_RETRIES))
        if not ray.is_initialized():
            self._start()
            self._started_cluster = True
        self.threads = self._threads_of_nodes()
        # The user's model must be importable where the task runs. Installed packages are importable anyway.
        paths = [path or os.getcwd() for path in sys.path if not path.startswith((sys.prefix, sys.base_prefix))]
        environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}
        self._task = ray.remote(
            num_cpus=self.threads, num_gpus=int(self.device == "cuda"), max_retries=_RETRIES,
            runtime_env=environment,
        )(train_elsewhere)  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        if self._started_cluster:
            ray.shutdown()

    def _start(self) -> None:
        address = os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = (
            {} if address else {"num_cpus": self.workers * self.threads, "include_dashboard": False}
        )
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            required = "a Ray cluster that answers (set RAY_AUTH_MODE=token if it requires a token)"
            raise BadInput("RAY_ADDRESS" if address else "--executor ray", required, lines[0][:300]) from None
        finally:
            # Ray installs a handler that ends this process silently and without the sweep's exit code.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)

    def _threads_of_nodes(self) -> int:
        """Return the CPUs per task: at most the CPUs of the smallest node, or its CPUs per GPU to train on GPUs."""
        nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
        resources = [node["Resources"] for node in nodes() if node["Alive"]]
        if self.device == "cuda":
            cpus = [node.get("CPU", 1.0) / node["GPU"] for node in resources if node.get("GPU")]
            if not cpus:
                raise BadInput("--device cuda", "a Ray cluster with a GPU", f"{len(resources)} nodes without one")
        else:
            cpus = [node["CPU"] for node in resources if node.get("CPU")]
        return max(1, int(min([self.threads, *cpus])))

    def notes(self) -> list[str]:
        """Return a note that names the cluster that trains the packs."""
        address = os.environ.get("RAY_ADDRESS")
        where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
        return [f"packs train on {where}, {self.max_tasks() // _QUEUE_FACTOR} at once"]

    def max_tasks(self) -> int:
        """Return twice the number of tasks that the cluster runs at once, so that no worker waits for a task."""
        resources: Callable[[], dict[str, float]] = ray.cluster_resources
        capacity = resources().get("GPU" if self.device == "cuda" else "CPU", 1.0)
        per_task = 1 if self.device == "cuda" else self.threads
        return _QUEUE_FACTOR * max(1, int(capacity // per_task))

    def submit(self, jobs: list[Job]) -> list[Any]:
        """Submit packs."""
        return [self._task.remote(job, self.threads, to_wall_clock(job.deadline)) for job in jobs]

    def wait_for_ended(self, tasks: list[Any]) -> list[Any]:
        """Wait for at most a second and return the tasks that have ended."""
        done, _ = ray.wait(tasks, timeout=1.0)
        return list(done)

    def outcome(self, task: Any) -> Outcome:
        """Return the outcome of a task."""
        try:
            result: Outcome = ray.get(task)
        except OutOfMemoryError:
            raise WorkerDied("its node ran out of memory", True) from None
        except (WorkerCrashedError, NodeDiedError) as error:
            raise WorkerDied(f"its worker died ({type(error).__name__})", True) from None
        except RayError as error:
            lines = str(error).strip().splitlines() or [""]
            raise WorkerDied(f"its task failed ({type(error).__name__}: {lines[-1][:300]})", False) from None
        return result

    def cancel(self, task: Any) -> None:
        """End a task."""
        ray.cancel(task, force=True)


def _check_address(address: str) -> None:
    """Check that an address accepts connections. Ray would retry for minutes without a readable message."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):  # a keyword of Ray such as "auto"
        return
    try:
        create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise BadInput("RAY_ADDRESS", "the address of a Ray cluster that answers", f"{address} ({error})") from None
