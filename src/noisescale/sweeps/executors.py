"""Executors, which decide where packs (sets of runs that train together) train: interface and implementations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Protocol

from noisescale.errors import BadInput, unknown_name
from noisescale.sweeps.jobs import Job, Outcome, Retry
from noisescale.sweeps.machine import Workers


class Executor(Protocol):
    """Trains packs, for example in local processes or on a cluster.

    Training a pack twice does no harm, because the file with its results is written once and atomically.
    """

    def __enter__(self) -> Executor:
        """Acquire the resources that training needs."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the resources that `__enter__` acquired. After an exception, stop all packs in training."""

    def notes(self) -> list[str]:
        """Return notes for the user about where packs train. The driver calls this after `__enter__`."""

    def run(
        self, jobs: Sequence[Job], stop: Callable[[], bool], refresh: Callable[[], None]
    ) -> Iterator[Outcome | Retry | None]:
        """Train packs. Yield each `Outcome` or `Retry` as soon as it exists, and None about once a second otherwise.

        Args:
            jobs: The packs to train, in this order.
            stop: Returns True when no further pack may start.
            refresh: Updates the display of progress. An executor that trains in this process calls it regularly,
                because it cannot yield during training.

        Yields:
            Outcomes, retries, or None.

        Raises:
            OSError: The results of a pack cannot be written on this machine.
        """


# The module, the class and the required library of each executor. `pip install 'noisescale[NAME]'`, with the name of
# the executor, installs the library.
_KNOWN = {
    "local": ("noisescale.sweeps.local_executor", "LocalExecutor", "torch"),
    "ray": ("noisescale.sweeps.ray_executor", "RayExecutor", "ray"),
    "slurm": ("noisescale.sweeps.slurm_executor", "SlurmExecutor", "submitit"),
}


def build_executor(name: str, workers: Workers, folder: Path, stuck_after: float) -> Executor:
    """Build an executor by its name.

    Args:
        name: "local", "ray" or "slurm".
        workers: Number of packs that train at once and threads per pack, where the executor can choose them.
        folder: The folder of the sweep.
        stuck_after: Seconds without a progress report after which a watched worker counts as stuck.

    Returns:
        The executor.

    Raises:
        BadInput: `check_executor` refuses it, or the executor cannot use its environment. Nothing is written.
    """
    check_executor(name)
    module, kind, _ = _KNOWN[name]
    executor: Executor = getattr(import_module(module), kind)(workers, folder, stuck_after)
    return executor


def check_executor(name: str) -> None:
    """Check that an executor can be built here.

    Args:
        name: The name that the user gave.

    Raises:
        BadInput: The name is unknown, or the library of the executor is not installed.
    """
    if name not in _KNOWN:
        raise unknown_name("--executor", tuple(_KNOWN), name)
    library = _KNOWN[name][2]
    if find_spec(library) is None:
        install = f"pip install 'noisescale[{name}]', for {library}"
        raise BadInput("--executor", f"an executor whose library is installed: {install}", name)
