"""Where packs are trained: the one interface, and its implementations by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Protocol

from noisescale.errors import BadInput, unknown_name
from noisescale.sweeps.jobs import Job, Outcome


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

    def run(self, jobs: Sequence[Job], stop: Callable[[], bool], beat: Callable[[], None]) -> Iterator[Outcome | None]:
        """Train packs and yield their outcomes as they come, and None about once a second in between.

        Arguments:
            stop: whether no further pack is to be begun. beat: called now and then where packs train in this very
                process, so that nothing can be yielded meanwhile.
        Raises:
            OSError: a shard cannot be written on this machine.
        """


# name: (module, class, the extra that it needs)
_KNOWN = {
    "local": ("noisescale.sweeps.executor", "LocalExecutor", ""),
    "ray": ("noisescale.sweeps.ray_executor", "RayExecutor", "ray"),
    "slurm": ("noisescale.sweeps.slurm_executor", "SlurmExecutor", "slurm"),
}


def build_executor(name: str, workers: int, threads: int, device: str, folder: Path, stuck_after: float) -> Executor:
    """An executor by name.

    Arguments:
        workers: packs in training at once, where the executor decides that. threads: of each. folder: of the sweep.
        stuck_after: seconds without a sign of life, after which a worker that is watched counts as stuck.
    Raises:
        BadInput: an unknown name, or an extra that is not installed.
    """
    module, kind, extra = check_executor(name)
    try:
        made: Executor = getattr(import_module(module), kind)(workers, threads, device, folder, stuck_after)
    except ModuleNotFoundError as error:
        install = f"pip install 'noisescale[{extra}]', for {error.name}"
        raise BadInput("--executor", f"an executor whose library is installed: {install}", name) from None
    return made


def check_executor(name: str) -> tuple[str, str, str]:
    """The module, the class and the extra of an executor.

    Raises:
        BadInput: an unknown name.
    """
    if name not in _KNOWN:
        raise unknown_name("--executor", tuple(_KNOWN), name)
    return _KNOWN[name]
