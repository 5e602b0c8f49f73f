"""SIGKILL and Ctrl-C at random moments: a power cut, an out-of-memory killer, a person."""

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
from disturbances.subject import PATIENCE, Subject, ended

# The whole process group, the driver alone, one worker alone.
KILLED = ("group", "driver", "worker")

# Workers whose driver died must be gone, or have finished their shard and then be gone, within this many seconds.
GONE_AFTER = 30.0

# Packs after which a driver is seen to have got over a worker's death: both that were in training, and one more.
_PACKS_AFTER_A_WORKER = 3


def kill(subject: Subject, chance: random.Random, kinds: Sequence[str]) -> Report:
    """Kill a sweep once for each kind, and start it again where that ended it, until nothing is left to kill.

    Arguments:
        chance: of the moments. kinds: "group", "driver", "worker", "interrupt" or "interrupt twice".
    """
    report = Report("", 0)
    hits: list[str] = []
    driver: subprocess.Popen[str] | None = None
    for kind in kinds:
        driver = driver or subject.start()
        await_moment(subject, driver, chance, at_work=kind == "worker" or kind.startswith("interrupt"))
        subject.remember()
        if driver.poll() is not None:
            break
        hits.append(kind)
        if kind == "worker":
            os.kill(chance.choice(workers(driver.pid)), signal.SIGKILL)
            subject.wait_for_packs(_PACKS_AFTER_A_WORKER, driver)
            report.check("a driver goes on when a worker dies", driver.poll() in (None, 0))
            continue
        if kind == "driver":
            os.kill(driver.pid, signal.SIGKILL)
        elif kind == "group":
            os.killpg(driver.pid, signal.SIGKILL)
        else:
            interrupt(driver, 2 if kind.endswith("twice") else 1)
        report.check(f"no process is left {GONE_AFTER:.0f} s later", are_gone(driver.pid))
        how, driver = ended(driver), None
        if kind.startswith("interrupt"):
            report.check("exit code 130 and one line", how.code == 130 and how.in_one_line)
    if driver is not None:
        report.check("a driver goes on when a worker dies", ended(driver).code == 0)
    report.done = ", ".join(f"{kind} {hits.count(kind)}" for kind in dict.fromkeys(hits))
    report.times = len(hits)
    return report


def await_moment(subject: Subject, driver: subprocess.Popen[str], chance: random.Random, at_work: bool) -> None:
    """Wait for a random moment: from the first imports, or some packs later, to the training or writing of the next.

    Arguments:
        at_work: whether workers have to be there by then.
    """
    packs = chance.randrange(3)
    if at_work:
        wait_until(lambda: driver.poll() is not None or bool(workers(driver.pid)), PATIENCE)
        packs += 1
    subject.wait_for_packs(packs, driver)
    wait_until(lambda: driver.poll() is not None, chance.uniform(0.0, 1.0 if packs else 6.0))
    if at_work:  # the pool of a round that is over may just be made anew
        wait_until(lambda: driver.poll() is not None or bool(workers(driver.pid)), PATIENCE)


def interrupt(driver: subprocess.Popen[str], times: int) -> None:
    """Ctrl-C as a terminal sends it, to the driver and its workers at once; the second while the first is heard."""
    for count in range(times):
        if count:
            time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGINT)


def are_gone(group: int) -> bool:
    """Whether a process group is empty, after some patience."""
    return wait_until(lambda: not members(group), GONE_AFTER)
