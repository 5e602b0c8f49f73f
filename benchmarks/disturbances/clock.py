"""Set the clock back repeatedly while a sweep runs."""

from __future__ import annotations

import os
import random
import re
import time
from unittest.mock import patch

from disturbances.fault import Report
from disturbances.processes import wait_until
from disturbances.subject import TIMEOUT, Subject, wait_for_exit
from noisescale.errors import BadInput
from noisescale.sweeps.folder_status import Status, status

# Python imports `sitecustomize` first in every process, so the clocks of driver and workers all lose an hour per
# second.
_SITECUSTOMIZE = """
import time
_time, _began = time.time, time.monotonic()
time.time = lambda: _time() - 3600.0 * int(time.monotonic() - _began)
"""


def set_back(subject: Subject, generator: random.Random) -> Report:
    """Run a sweep with a clock that loses an hour every second, and read the status of the sweep meanwhile."""
    report = Report("clock set back by an hour every second, through the whole sweep", 0)
    injected = subject.folder / "clock"
    injected.mkdir()
    (injected / "sitecustomize.py").write_text(_SITECUSTOMIZE, encoding="utf-8")
    paths = os.pathsep.join([str(injected), *filter(None, [os.environ.get("PYTHONPATH")])])
    began, seen = time.monotonic(), list[Status]()
    driver = subject.start(environment={"PYTHONPATH": paths})
    wait_until(lambda: driver.poll() is not None or _record_status(subject, seen), TIMEOUT)
    outcome = wait_for_exit(driver)
    report.times = int(time.monotonic() - began)
    report.check("the sweep completes under that clock", outcome.code == 0)
    report.check("status works under any clock", len(seen) > 1)
    report.check("no age and no remaining time is negative", not any(_has_negative_time(entry) for entry in seen))
    report.check("no negative number is shown", not re.search(r"(?<![\w.])-\d", outcome.stderr))
    return report


def _record_status(subject: Subject, seen: list[Status]) -> bool:
    """Record the status with this clock and with a clock that is a day behind. Always return False."""
    try:
        seen.append(status(subject.out))
        behind = time.time() - 86_400.0
        with patch("time.time", lambda: behind):
            seen.append(status(subject.out))
    except BadInput:  # the sweep has not created its folder yet
        pass
    return False


def _has_negative_time(entry: Status) -> bool:
    times = [value for value in (entry.heartbeat_age, entry.seconds_left) if value is not None]
    return any(value < 0.0 for value in times) or any("-" in line for line in entry.lines() if "time left" in line)
