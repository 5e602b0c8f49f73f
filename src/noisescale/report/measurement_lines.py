"""Lines on standard error while a model is measured: each quantity as it is done, and a sign of life."""

from __future__ import annotations

import math
import sys
import threading
import time
from types import TracebackType

from noisescale.measure import Progress
from noisescale.report.measured_curves import NAMES
from noisescale.report.numbers import number, seconds

# Seconds between two signs of life within one measurement.
_PAUSE = 15.0


class MeasurementLines:
    """Shows the progress of `measure_model`."""

    def __init__(self) -> None:
        self._began, self._doing = time.monotonic(), ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> MeasurementLines:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def show(self, progress: Progress) -> None:
        """Print what is done, and what comes next.

        Args:
            progress: The state of the measurement.
        """
        for row in progress.done:
            value, error = number(row.estimate.value, 4), number(row.estimate.standard_error, 2)
            self._print(f"{NAMES[row.name]}: {value} ± {error} ({seconds(row.seconds)})")
        self._doing = ", ".join(NAMES[name] for name in progress.following)
        if self._doing:
            left = progress.seconds_at_most
            rest = f"; at most {seconds(left)} for all that is left" if math.isfinite(left) and left > 0 else ""
            self._print(f"next: {self._doing}{rest}")

    def _live(self) -> None:
        while not self._end.wait(_PAUSE):
            if self._doing:
                self._print(f"still at {self._doing}, {seconds(time.monotonic() - self._began)} since the start")

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
