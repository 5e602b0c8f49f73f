"""The log of a sweep's folder: one line per pack (runs that train together), to trace failures afterwards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from noisescale.errors import printable
from noisescale.runs import Run
from noisescale.store import append_line

if TYPE_CHECKING:  # the command `status` imports this module and must not load torch
    from noisescale.sweeps.jobs import Outcome, Retry
    from noisescale.sweeps.plan import Pack

FILE = "log.txt"

# The keys of a run that describe its pack in the log.
_DESCRIBED = ("parameterization", "width", "batch_size", "steps", "learning_rate", "momentum", "weight_decay", "seed",
              "purpose")  # fmt: skip


class SweepLog:
    """The log file of one sweep. A sweep continues if the file cannot be written.

    Args:
        folder: The folder of the sweep.
        clock: Returns the time in seconds since 1970.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = folder / FILE, clock

    def write(self, text: str) -> None:
        """Append a line with the time."""
        when = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        with contextlib.suppress(OSError):
            append_line(self._path, f"{when} {printable(' '.join(text.split()))}")

    def write_outcome(self, pack: Pack, outcome: Outcome) -> None:
        """Append the outcome of a pack."""
        if outcome.error is not None:
            result = f"failed: {outcome.error}"
        elif outcome.paused:
            result = "paused"
        else:
            seconds = sum(outcome.seconds.values())
            result = f"done in {seconds:.1f} s" + (f", {outcome.diverged} diverged" if outcome.diverged else "")
        note = f"; {outcome.note}" if outcome.note else ""
        self.write(f"pack {pack.pack_id} ({describe_runs(pack.runs)}): {result}{note}")

    def write_retry(self, pack: Pack, retry: Retry) -> None:
        """Append that a pack starts again."""
        again = f"starting again, {retry.runs_at_once} runs at once"
        self.write(f"pack {pack.pack_id} ({describe_runs(pack.runs)}): {retry.reason}; {again}")


def describe_runs(runs: Sequence[Run]) -> str:
    """Describe the runs of one pack: their number, the values that they share, and the ranges of the other values."""
    values = {name: sorted({getattr(run, name) for run in runs}) for name in _DESCRIBED}
    ranges = (f"{name} {v[0]}" + (f" to {v[-1]}" if len(v) > 1 else "") for name, v in values.items())
    return f"{len(runs)} runs at " + ", ".join(ranges)
