"""Start two drivers on one folder."""

from __future__ import annotations

import platform
import random
import subprocess

from disturbances.fault import Report
from disturbances.kills import interrupt
from disturbances.subject import TIMEOUT, Outcome, Subject, wait_for_exit


def two_drivers(subject: Subject, generator: random.Random) -> Report:
    """Start a second driver while the first works, then two drivers at the same moment."""
    report = Report("a second driver during the sweep; two drivers at once", 2)
    first = subject.start()
    subject.wait_for_packs(1, first)
    second = subject.complete()
    report.check("the second is refused with exit code 2 and names the first", _names(second, first))
    report.check("the first continues", subject.wait_for_packs(1, first))
    interrupt(first, 1)
    wait_for_exit(first)
    subject.record_finished()
    rivals = [subject.start("--max-seconds", "5") for _ in range(2)]
    codes = [driver.wait(TIMEOUT) for driver in rivals]
    refused = codes.index(2) if 2 in codes else 0
    report.check(
        "of two at once, one is refused and names the other",
        _names(wait_for_exit(rivals[refused]), rivals[1 - refused]),
    )
    report.check("of two at once, the other continues", codes[1 - refused] in (0, 130))
    return report


def _names(outcome: Outcome, driver: subprocess.Popen[str]) -> bool:
    name = f"process {driver.pid} on {platform.node()}"
    return outcome.code == 2 and outcome.is_one_message and name in outcome.last_line
