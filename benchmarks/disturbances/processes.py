"""Processes of a driver: started as a terminal does it, found through /proc, and waited for."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def start(
    command: Sequence[str], environment: Mapping[str, str] | None = None, largest_file: int | None = None
) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, one thread a process, with its messages in a pipe.

    Arguments:
        environment: what it has beside this process's own. largest_file: bytes; a write beyond fails.
    """

    def prepare() -> None:
        # A shell starts what runs in its background with interrupts ignored, and children inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.Popen(
        command, env=variables, start_new_session=True, stderr=subprocess.PIPE, text=True, preexec_fn=prepare
    )


def members(group: int) -> list[int]:
    """The processes of a group that are not yet gone."""
    return [process for process, (state, _, its_group) in _processes().items() if its_group == group and state != "Z"]


def descendants(ancestor: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    parents = {process: parent for process, (_, parent, _) in _processes().items()}
    found, ahead = set[int](), {ancestor}
    while ahead:
        ahead = {process for process, parent in parents.items() if parent in ahead} - found
        found |= ahead
    return sorted(found)


def _processes() -> dict[int, tuple[str, int, int]]:
    """State, parent and group of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:  # it ended while we looked
                continue
            found[int(entry.name)] = state, int(parent), int(group)
    return found


def with_command(processes: Sequence[int], text: str) -> list[int]:
    """Those processes whose command line holds a text."""
    found = []
    for process in processes:
        try:
            command = (Path("/proc") / str(process) / "cmdline").read_text()
        except OSError:
            continue
        if text in command:
            found.append(process)
    return found


def workers(group: int) -> list[int]:
    """The worker processes of a driver."""
    return with_command(members(group), "spawn_main")


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds, at most so long; whether it came to that."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
