"""The time that work takes, without the time in which the process was stopped."""

from __future__ import annotations

import time

# Seconds of one piece of work above which it may contain a stop (Ctrl-Z, a suspended job). A piece takes about a
# second, or as long as one evaluation.
_MAY_CONTAIN_STOP = 60.0
# A process that works uses at least this share of the time that passes, also beside others on a busy machine.
_LEAST_SHARE = 0.1


class Stopwatch:
    """Measures how long a piece of work takes, from the moment at which it is built.

    A stopped process uses no processor time. Long pieces that used almost none are therefore counted by their
    processor time.
    """

    def __init__(self) -> None:
        self._began, self._began_working = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        """Return the seconds since the start, without those in which the process was stopped."""
        passed, worked = time.perf_counter() - self._began, time.process_time() - self._began_working
        was_stopped = passed > _MAY_CONTAIN_STOP and worked < _LEAST_SHARE * passed
        return worked if was_stopped else passed
