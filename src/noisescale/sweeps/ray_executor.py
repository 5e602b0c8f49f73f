"""Packs as Ray tasks, on a cluster or on this machine."""

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
from noisescale.sweeps.remote import train_elsewhere, wall_clock
from noisescale.sweeps.task_executor import TaskExecutor, WorkerDied

# How often Ray runs a pack again whose worker or node died, and whose node ran out of memory: the latter is halved
# then.
_RETRIES, _RETRIES_FOR_MEMORY = 3, 1
# Tasks that wait for a place, for each that is in training: enough that none stands idle.
_WAITING = 2
# Seconds within which a cluster's head takes a connection.
_CONNECT_WITHIN = 10.0


class RayExecutor(TaskExecutor):
    """One Ray task a pack.

    The cluster is the one that the environment variable RAY_ADDRESS names; without it one is started on this machine,
    without a dashboard, and stopped at the end.

    Args:
        workers: Packs at once on a cluster that is started here, and CPUs of each, or as many as the smallest node has;
            on GPUs each pack has one.
        folder: Of the sweep, which every node must see under the same path.
        stuck_after: Seconds without a sign of life, after which a task is cancelled.

    Raises:
        BadInput: Nobody is at that address.
    """

    def __init__(self, workers: Workers, folder: Path, stuck_after: float) -> None:
        super().__init__(folder, stuck_after)
        if not ray.is_initialized() and (address := os.environ.get("RAY_ADDRESS")):
            _check_address(address)
        self.workers, self.threads, self.device = workers.count, workers.threads, workers.device
        self._began = False

    def __enter__(self) -> RayExecutor:
        """Attach to the cluster, or start one.

        Raises:
            BadInput: There is none, or none of its nodes has what a pack needs.
        """
        # Without it Ray begins a task again for ever that its node's memory does not hold.
        os.environ.setdefault("RAY_task_oom_retries", str(_RETRIES_FOR_MEMORY))
        if not ray.is_initialized():
            self._start()
            self._began = True
        self.threads = self._threads_of_nodes()
        # A user's model must be importable where the task runs; what is installed is, without a word.
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
        if self._began:
            ray.shutdown()

    def _start(self) -> None:
        address = os.environ.get("RAY_ADDRESS")
        own: dict[str, Any] = {} if address else {"num_cpus": self.workers * self.threads, "include_dashboard": False}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            required = "a Ray cluster that answers (RAY_AUTH_MODE=token where it asks for a token)"
            raise BadInput("RAY_ADDRESS" if address else "--executor ray", required, said[0][:300]) from None
        finally:
            # Ray's own handler would end this process without a word, and without the sweep's exit code.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)

    def _threads_of_nodes(self) -> int:
        """CPUs of a task: no more than every node that can train has, for each of its GPUs where packs need one."""
        nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
        resources = [node["Resources"] for node in nodes() if node["Alive"]]
        if self.device == "cuda":
            places = [found.get("CPU", 1.0) / found["GPU"] for found in resources if found.get("GPU")]
            if not places:
                raise BadInput("--device cuda", "a Ray cluster with a GPU", f"{len(resources)} nodes without one")
        else:
            places = [found["CPU"] for found in resources if found.get("CPU")]
        return max(1, int(min([self.threads, *places])))

    def notes(self) -> list[str]:
        """Which cluster it is."""
        address = os.environ.get("RAY_ADDRESS")
        where = f"the Ray cluster at {address}" if address else "a Ray cluster of this machine"
        return [f"packs train on {where}, {self.most() // _WAITING} at once"]

    def most(self) -> int:
        """As many as the cluster holds at once, and some that wait."""
        resources: Callable[[], dict[str, float]] = ray.cluster_resources
        places = resources().get("GPU" if self.device == "cuda" else "CPU", 1.0)
        each = 1 if self.device == "cuda" else self.threads
        return _WAITING * max(1, int(places // each))

    def submit(self, jobs: list[Job]) -> list[Any]:
        """Hand packs in."""
        return [self._task.remote(job, self.threads, wall_clock(job.until)) for job in jobs]

    def ended(self, tasks: list[Any]) -> list[Any]:
        """Those that have ended within a second."""
        done, _ = ray.wait(tasks, timeout=1.0)
        return list(done)

    def answer(self, task: Any) -> Outcome:
        """A task's outcome."""
        try:
            found: Outcome = ray.get(task)
        except OutOfMemoryError:
            raise WorkerDied("the memory of its node did not hold it", True) from None
        except (WorkerCrashedError, NodeDiedError) as error:
            raise WorkerDied(f"its worker died ({type(error).__name__})", True) from None
        except RayError as error:
            said = str(error).strip().splitlines() or [""]
            raise WorkerDied(f"its task failed ({type(error).__name__}: {said[-1][:300]})", False) from None
        return found

    def cancel(self, task: Any) -> None:
        """End a task."""
        ray.cancel(task, force=True)


def _check_address(address: str) -> None:
    """Refuse an address at which nobody listens; Ray itself tries for minutes, without a word that can be read."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):  # a word of Ray's own, such as "auto"
        return
    try:
        create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise BadInput("RAY_ADDRESS", "the address of a Ray cluster that answers", f"{address} ({error})") from None
