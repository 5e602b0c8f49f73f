"""The log of a sweep's folder: a line a pack, so that what failed, and when, can be read afterwards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from noisescale.runs import Run
from noisescale.sweeps.jobs import Outcome, Retry
from noisescale.sweeps.plan import Pack

FILE = "log.txt"

# What runs of one pack have in common, or may differ in.
_NAMED = ("parameterization", "width", "batch_size", "steps", "learning_rate", "momentum", "weight_decay", "seed",
          "purpose")  # fmt: skip


class SweepLog:
    """Appends to the folder's log; where that fails the sweep goes on.

    Arguments:
        folder: of the sweep. clock: seconds since 1970.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = folder / FILE, clock

    def say(self, text: str) -> None:
        """Append a line with the time."""
        when = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(f"{when} {' '.join(text.split())}\n")

    def pack(self, pack: Pack, outcome: Outcome) -> None:
        """What became of a pack."""
        if outcome.error is not None:
            became = f"failed: {outcome.error}"
        elif outcome.paused:
            became = "put aside"
        else:
            taken = sum(outcome.seconds.values())
            became = f"done in {taken:.1f} s" + (f", {outcome.diverged} diverged" if outcome.diverged else "")
        self.say(f"pack {pack.pack_id} ({described(pack.runs)}): {became}" + (f"; {outcome.note}" * bool(outcome.note)))

    def retry(self, pack: Pack, retry: Retry) -> None:
        """That a pack is begun again."""
        how = f"begun again, {retry.at_once} runs at once"
        self.say(f"pack {pack.pack_id} ({described(pack.runs)}): {retry.why}; {how}")


def described(runs: Sequence[Run]) -> str:
    """Runs of one pack in words: their number, what they share, and from where to where the rest goes."""
    values = ((name, sorted({getattr(run, name) for run in runs})) for name in _NAMED)
    return f"{len(runs)} runs at " + ", ".join(
        f"{name} {found[0]}" + (f" to {found[-1]}" if len(found) > 1 else "") for name, found in values
    )
