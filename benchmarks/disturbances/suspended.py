"""Stop a whole sweep and let it go on, as Ctrl-Z, a suspended job or a laptop's sleep do."""

from __future__ import annotations

import os
import random
import signal
import time

from disturbances.fault import Report
from disturbances.processes import wait_until, workers
from disturbances.subject import TIMEOUT, Subject, wait_for_exit

# A worker that is silent for this many seconds counts as stuck, and the sweep is stopped for a multiple of them.
STUCK_AFTER, STOPPED = 20.0, 70.0


def suspend(subject: Subject, generator: random.Random) -> Report:
    """Stop all processes of a sweep twice, for longer than a worker may be silent.

    Args:
        subject: The sweep.
        generator: Source of the random moments.
    """
    report = Report(f"all processes stopped for {STOPPED:g} s, where a silence of {STUCK_AFTER:g} s is fatal", 0)
    driver = subject.start("--stuck-after", f"{STUCK_AFTER:g}")
    for _ in range(2):
        wait_until(lambda: driver.poll() is not None or bool(workers(driver.pid)), TIMEOUT)
        wait_until(lambda: driver.poll() is not None, generator.uniform(0.0, 2.0))
        subject.record_finished()
        if driver.poll() is not None:
            break
        os.killpg(driver.pid, signal.SIGSTOP)
        time.sleep(STOPPED)
        os.killpg(driver.pid, signal.SIGCONT)
        report.times += 1
    outcome = wait_for_exit(driver)
    report.check("the sweep goes on and completes", outcome.code == 0)
    report.check("no worker counts as stuck", "reported no progress" not in (subject.out / "log.txt").read_text())
    return report
