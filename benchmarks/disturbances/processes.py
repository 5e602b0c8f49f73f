"""Start the processes of a driver as a terminal does, find them through /proc, and wait for them."""

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
    """Start a command in a new process group, with one thread in each process and a pipe for its messages.

    Args:
        command: The command.
        environment: Environment variables in addition to the variables of this process.
        largest_file: Limit on the size of a file, in bytes.
    """

    def prepare() -> None:
        # A shell starts background jobs with interrupts ignored, and child processes inherit this setting.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.Popen(
        command, env=variables, start_new_session=True, stderr=subprocess.PIPE, text=True, preexec_fn=prepare
    )


def members(group: int) -> list[int]:
    """List the live processes of a group."""
    return [process for process, (state, _, its_group) in _processes().items() if its_group == group and state != "Z"]


def descendants(ancestor: int) -> list[int]:
    """List the processes that a process has started, directly or indirectly."""
    parents = {process: parent for process, (_, parent, _) in _processes().items()}
    result, generation = set[int](), {ancestor}
    while generation:
        generation = {process for process, parent in parents.items() if parent in generation} - result
        result |= generation
    return sorted(result)


def _processes() -> dict[int, tuple[str, int, int]]:
    """Read state, parent and group of every process."""
    processes = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:  # the process has ended meanwhile
                continue
            processes[int(entry.name)] = state, int(parent), int(group)
    return processes


def with_command(processes: Sequence[int], text: str) -> list[int]:
    """Select the processes whose command line contains a text."""
    selected = []
    for process in processes:
        try:
            command = (Path("/proc") / str(process) / "cmdline").read_text()
        except OSError:
            continue
        if text in command:
            selected.append(process)
    return selected


def workers(group: int) -> list[int]:
    """List the worker processes of a driver."""
    return with_command(members(group), "spawn_main")


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds. Return False if it does not hold within the time limit."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
