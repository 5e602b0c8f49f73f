"""Signs of life of packs in training, and which packs have given none for too long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

SUFFIX = ".alive"

# Seconds without a sign of life after which a worker counts as stuck. A sign comes with every slice of training, 20 s
# and at most one step or evaluation more, so that this is 45 times as long.
STUCK_AFTER = 900.0


class LifeSign:
    """A file that is written while a pack trains, with the share of its steps that is done.

    Arguments:
        folder: of checkpoints. pack_id: of the pack.
    """

    def __init__(self, folder: Path, pack_id: str) -> None:
        self._path = folder / f"{pack_id}{SUFFIX}"

    def give(self, share: float = 0.0) -> None:
        """Write it; where that fails the training goes on."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(f"{share:.4f}")

    def end(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def shares_done(folder: Path) -> dict[str, float]:
    """The share of its steps that is done of every pack that gives signs of life, by its id."""
    found = {}
    for path in folder.glob(f"*{SUFFIX}"):
        # It may be gone, or be written at this moment.
        with contextlib.suppress(OSError, ValueError):
            share = float(path.read_text())
            found[path.stem] = share if 0 <= share <= 1 else 0.0
    return found


class Watchdog:
    """Looks for packs whose life sign has not changed for too long.

    Arguments:
        folder: of checkpoints. patience: seconds. clock: seconds that never go back.

    Only changes of the file's time are looked at, by this process's own clock: other machines' clocks differ. A pack
    is watched from its first sign on, since it may wait for a place before that.
    """

    def __init__(self, folder: Path, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience = patience
        self._folder, self._clock = folder, clock
        self._seen: dict[str, tuple[int, float]] = {}

    def stuck(self, pack_ids: Iterable[str]) -> list[str]:
        """Those of the packs that give no sign of life any more."""
        now, found = self._clock(), []
        for pack_id in pack_ids:
            try:
                changed = (self._folder / f"{pack_id}{SUFFIX}").stat().st_mtime_ns
            except OSError:
                continue
            known, since = self._seen.get(pack_id, (None, now))
            if changed != known:
                self._seen[pack_id] = changed, now
            elif now - since > self.patience:
                found.append(pack_id)
        return found

    def forget(self, pack_id: str) -> None:
        """Begin anew with a pack that is begun again."""
        self._seen.pop(pack_id, None)

    @property
    def verdict(self) -> str:
        """What is said of a pack that is stuck."""
        return f"gave no sign of life for {self.patience:g} s"
