"""Signs of life of packs in training, and which packs have given none for too long."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

SUFFIX = ".alive"

# Seconds without a sign of life after which a worker counts as stuck. A sign comes with every slice of training, 20 s
# and at most one step or evaluation more, so that this is 45 times as long.
STUCK_AFTER = 900.0

# Signs within the time after which a worker that gives none is stuck, where that time is short.
SIGNS_AT_LEAST = 4


class LifeSign:
    """A file that is written while a pack trains, with the share of its steps that was done before and is done now.

    Args:
        folder: Of checkpoints.
        pack_id: Of the pack.
    """

    def __init__(self, folder: Path, pack_id: str) -> None:
        self._path = folder / f"{pack_id}{SUFFIX}"

    def give(self, before: float = 0.0, now: float = 0.0) -> None:
        """Write it; where that fails the training goes on.

        Args:
            before: Share of the steps that an earlier worker did.
            now: That is done.
        """
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(f"{before:.4f} {now:.4f}")

    def end(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def shares_done(folder: Path) -> dict[str, tuple[float, float]]:
    """Of every pack that gives signs of life, by its id: the share of its steps done before, and the share done now."""
    found = {}
    for path in folder.glob(f"*{SUFFIX}"):
        # It may be gone, or be written at this moment.
        with contextlib.suppress(OSError, ValueError):
            before, now = map(float, path.read_text().split())
            found[path.stem] = (before, now) if 0 <= before <= now <= 1 else (0.0, 0.0)
    return found


def clear_signs(folder: Path) -> None:
    """Remove what killed workers left."""
    for path in folder.glob(f"*{SUFFIX}"):
        path.unlink(missing_ok=True)


class Watchdog:
    """Looks for packs whose life sign has not changed for too long.

    Args:
        folder: Of checkpoints.
        patience: seconds.
        clock: Seconds that never go back.  Only changes of the file's time are looked at, by this process's own clock:
            other machines' clocks differ. A pack is watched from its first sign on after `begin`, since it may wait for
            a place before that.
    """

    def __init__(self, folder: Path, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience = patience
        self._folder, self._clock = folder, clock
        # When each sign was given, and since when that is known here; a sign of an earlier worker is none.
        self._seen: dict[str, tuple[int | None, float]] = {}

    def begin(self, pack_id: str) -> None:
        """Watch a pack that is handed in, or handed in again."""
        self._seen[pack_id] = self._sign(pack_id), math.inf

    def has_begun(self, pack_id: str) -> bool:
        """Whether a worker has given a sign since the pack was handed in."""
        self.stuck([pack_id])
        return math.isfinite(self._seen[pack_id][1])

    def stuck(self, pack_ids: Iterable[str]) -> list[str]:
        """Those of the packs that give no sign of life any more."""
        now, found = self._clock(), []
        for pack_id in pack_ids:
            known, since = self._seen[pack_id]
            sign = self._sign(pack_id)
            if sign is not None and sign != known:
                self._seen[pack_id] = sign, now
            elif now - since > self.patience:
                found.append(pack_id)
        return found

    def _sign(self, pack_id: str) -> int | None:
        try:
            return (self._folder / f"{pack_id}{SUFFIX}").stat().st_mtime_ns
        except OSError:
            return None

    @property
    def verdict(self) -> str:
        """What is said of a pack that is stuck."""
        return f"gave no sign of life for {self.patience:g} s"
