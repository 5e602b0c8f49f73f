"""A clock that is set back again and again while a sweep runs."""

from __future__ import annotations

import os
import random
import re
import time
from unittest.mock import patch

from disturbances.fault import Report
from disturbances.processes import wait_until
from disturbances.subject import PATIENCE, Subject, ended
from noisescale.errors import BadInput
from noisescale.sweeps.folder_status import Status, status

# Python runs a module of this name in every process before anything else: driver and workers lose an hour every second.
_INJECTED = """
import time
_time, _began = time.time, time.monotonic()
time.time = lambda: _time() - 3600.0 * int(time.monotonic() - _began)
"""


def set_back(subject: Subject, chance: random.Random) -> Report:
    """Run a sweep under a clock that loses an hour every second, and ask for its status meanwhile."""
    report = Report("clock set back by an hour every second, through the whole sweep", 0)
    place = subject.folder / "clock"
    place.mkdir()
    (place / "sitecustomize.py").write_text(_INJECTED, encoding="utf-8")
    paths = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
    began, seen = time.monotonic(), list[Status]()
    driver = subject.start(environment={"PYTHONPATH": paths})
    wait_until(lambda: driver.poll() is not None or _look(subject, seen), PATIENCE)
    how = ended(driver)
    report.times = int(time.monotonic() - began)
    report.check("it completes under that clock", how.code == 0)
    report.check("status works under any clock", len(seen) > 1)
    report.check("no age and no time left is negative", all(_sound(one) for one in seen))
    report.check("and none is shown so", not re.search(r"(?<![\w.])-\d", how.said))
    return report


def _look(subject: Subject, seen: list[Status]) -> bool:
    """Note the status by this process's clock, and by one that is a day behind."""
    try:
        seen.append(status(subject.out))
        behind = time.time() - 86_400.0
        with patch("time.time", lambda: behind):
            seen.append(status(subject.out))
    except BadInput:  # the folder is not begun yet
        pass
    return False


def _sound(one: Status) -> bool:
    ages = [value for value in (one.heartbeat_age, one.seconds_left) if value is not None]
    return all(value >= 0.0 for value in ages) and not any("-" in line for line in one.lines() if "time left" in line)
