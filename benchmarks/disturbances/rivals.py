"""Two drivers on one folder."""

from __future__ import annotations

import platform
import random
import subprocess

from disturbances.fault import Report
from disturbances.kills import interrupt
from disturbances.subject import PATIENCE, Ended, Subject, ended


def two_drivers(subject: Subject, chance: random.Random) -> Report:
    """A second driver while the first is at work, and two that start in the same moment."""
    report = Report("a second driver in mid-sweep; two drivers at once", 2)
    first = subject.start()
    subject.wait_for_packs(1, first)
    second = subject.complete()
    report.check("the second is refused with exit code 2 and names the first", _names(second, first))
    report.check("the first goes on", subject.wait_for_packs(1, first))
    interrupt(first, 1)
    ended(first)
    subject.remember()
    both = [subject.start("--max-seconds", "5") for _ in range(2)]
    codes = [driver.wait(PATIENCE) for driver in both]
    loser = codes.index(2) if 2 in codes else 0
    report.check("of two at once, one is refused and names the other", _names(ended(both[loser]), both[1 - loser]))
    report.check("of two at once, the other goes on", codes[1 - loser] in (0, 130))
    return report


def _names(refused: Ended, driver: subprocess.Popen[str]) -> bool:
    named = f"process {driver.pid} on {platform.node()}"
    return refused.code == 2 and refused.in_one_line and named in refused.last
