"""Send SIGKILL or Ctrl-C at random moments, like a power cut, an out-of-memory killer or a person."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence

from disturbances.fault import Report
from disturbances.processes import members, wait_until, workers
from disturbances.subject import TIMEOUT, Subject, wait_for_exit

# Processes that a kill can hit: the whole process group, the driver alone, or one worker alone.
KILLED = ("group", "driver", "worker")

# If the driver dies, its workers must exit within this many seconds, with or without a finished shard.
EXIT_TIMEOUT = 30.0

# If this many packs finish after a worker's death, the driver has survived it. Two of them were already in training.
_PACKS_AFTER_A_WORKER = 3


def kill(subject: Subject, generator: random.Random, kinds: Sequence[str]) -> Report:
    """Kill a sweep once for each kind, and restart it when needed, until it has finished.

    Args:
        subject: The sweep.
        generator: Source of the random moments.
        kinds: "group", "driver", "worker", "interrupt" or "interrupt twice", in order.
    """
    report = Report("", 0)
    hits: list[str] = []
    driver: subprocess.Popen[str] | None = None
    for kind in kinds:
        driver = driver or subject.start()
        await_moment(subject, driver, generator, at_work=kind == "worker" or kind.startswith("interrupt"))
        subject.record_finished()
        if driver.poll() is not None:
            break
        hits.append(kind)
        if kind == "worker":
            os.kill(generator.choice(workers(driver.pid)), signal.SIGKILL)
            subject.wait_for_packs(_PACKS_AFTER_A_WORKER, driver)
            report.check("a driver continues when a worker dies", driver.poll() in (None, 0))
            continue
        if kind == "driver":
            os.kill(driver.pid, signal.SIGKILL)
        elif kind == "group":
            os.killpg(driver.pid, signal.SIGKILL)
        else:
            interrupt(driver, 2 if kind.endswith("twice") else 1)
        report.check(f"no process remains {EXIT_TIMEOUT:.0f} s later", is_empty(driver.pid))
        outcome, driver = wait_for_exit(driver), None
        if kind.startswith("interrupt"):
            report.check("exit code 130 and one line", outcome.code == 130 and outcome.is_one_message)
    if driver is not None:
        report.check("a driver continues when a worker dies", wait_for_exit(driver).code == 0)
    report.description = ", ".join(f"{kind} {hits.count(kind)}" for kind in dict.fromkeys(hits))
    report.times = len(hits)
    return report


def await_moment(subject: Subject, driver: subprocess.Popen[str], generator: random.Random, at_work: bool) -> None:
    """Wait until a random moment, which can be during the first imports or some packs later.

    Args:
        subject: The sweep.
        driver: Its driver.
        generator: Source of the random moment.
        at_work: Whether to wait until workers exist.
    """
    packs = generator.randrange(3)
    if at_work:
        wait_until(lambda: driver.poll() is not None or bool(workers(driver.pid)), TIMEOUT)
        packs += 1
    subject.wait_for_packs(packs, driver)
    wait_until(lambda: driver.poll() is not None, generator.uniform(0.0, 1.0 if packs else 6.0))
    if at_work:  # the pool of workers is started again between two rounds
        wait_until(lambda: driver.poll() is not None or bool(workers(driver.pid)), TIMEOUT)


def interrupt(driver: subprocess.Popen[str], times: int) -> None:
    """Send Ctrl-C to the driver and its workers, as a terminal does. A second Ctrl-C follows after 0.1 s."""
    for count in range(times):
        if count:
            time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGINT)


def is_empty(group: int) -> bool:
    """Return whether a process group becomes empty within the time limit."""
    return wait_until(lambda: not members(group), EXIT_TIMEOUT)
