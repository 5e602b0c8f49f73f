"""Where packs are trained: the one interface, and its implementations by name."""

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
    """Trains packs somewhere.

    A pack is idempotent: its shard is written once and whole, so that a retry or a twin repeats work and no more.
    """

    def __enter__(self) -> Executor:
        """Take what is needed to train."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back; after an exception nothing is left in training."""

    def notes(self) -> list[str]:
        """What a user should know of where packs train; asked once it is entered."""

    def run(
        self, jobs: Sequence[Job], stop: Callable[[], bool], beat: Callable[[], None]
    ) -> Iterator[Outcome | Retry | None]:
        """Train packs and yield what becomes of them as it comes, and None about once a second in between.

        Args:
            jobs: The packs to train, in this order.
            stop: Whether no further pack is to be begun.
            beat: Called now and then where packs train in this very process, so that nothing can be yielded meanwhile.

        Raises:
            OSError: A shard cannot be written on this machine.
        """


# name: (module, class, the library that it needs); the extra that brings the library has the executor's name.
_KNOWN = {
    "local": ("noisescale.sweeps.local_executor", "LocalExecutor", "torch"),
    "ray": ("noisescale.sweeps.ray_executor", "RayExecutor", "ray"),
    "slurm": ("noisescale.sweeps.slurm_executor", "SlurmExecutor", "submitit"),
}


def build_executor(name: str, workers: Workers, folder: Path, stuck_after: float) -> Executor:
    """An executor by name.

    Args:
        name: "local", "ray" or "slurm".
        workers: Packs in training at once, and the threads of each, where the executor decides that.
        folder: Of the sweep.
        stuck_after: Seconds without a sign of life, after which a worker that is watched counts as stuck.

    Raises:
        BadInput: As `check_executor`, or surroundings that the executor cannot use; nothing is written.
    """
    check_executor(name)
    module, kind, _ = _KNOWN[name]
    made: Executor = getattr(import_module(module), kind)(workers, folder, stuck_after)
    return made


def check_executor(name: str) -> None:
    """Refuse an executor that cannot be built here.

    Raises:
        BadInput: An unknown name, or an extra that is not installed.
    """
    if name not in _KNOWN:
        raise unknown_name("--executor", tuple(_KNOWN), name)
    library = _KNOWN[name][2]
    if find_spec(library) is None:
        install = f"pip install 'noisescale[{name}]', for {library}"
        raise BadInput("--executor", f"an executor whose library is installed: {install}", name)
