"""Progress reports of packs (runs that train together), and the watchdog that notices when the reports stop."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

SUFFIX = ".alive"

# Seconds without a progress report after which a worker counts as stuck. Workers report every 2 s, plus at most one
# step or evaluation, which may be long.
STUCK_AFTER = 900.0

# Seconds between two looks after which this process was stopped (Ctrl-Z, a suspended job, a closed laptop), and its
# workers with it. It looks about once a second.
ASLEEP_AFTER = 60.0

# Workers report at least this many times within the time after which they count as stuck.
REPORTS_PER_TIMEOUT = 4


class AliveFile:
    """The file in which a worker reports its progress on one pack.

    The file holds two fractions of the pack's steps: the steps that earlier workers did, and all steps done so far.

    Args:
        folder: The folder of checkpoints.
        pack_id: The id of the pack.
    """

    def __init__(self, folder: Path, pack_id: str) -> None:
        self._path = folder / f"{pack_id}{SUFFIX}"

    def write(self, before: float = 0.0, now: float = 0.0) -> None:
        """Write the file. If that fails, training continues.

        Args:
            before: Fraction of the steps that earlier workers completed, from 0 to 1.
            now: Fraction of the steps completed so far, including those of earlier workers, from 0 to 1.
        """
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(f"{before:.4f} {now:.4f}")

    def remove(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def read_step_shares(folder: Path) -> dict[str, tuple[float, float]]:
    """Read the progress reports of all packs in training.

    Args:
        folder: The folder of checkpoints.

    Returns:
        Two fractions of the steps by pack id: the steps that earlier workers did, and all steps done so far.
    """
    shares = {}
    for path in folder.glob(f"*{SUFFIX}"):
        # A worker may be writing or removing the file.
        with contextlib.suppress(OSError, ValueError):
            before, now = map(float, path.read_text().split())
            shares[path.stem] = (before, now) if 0 <= before <= now <= 1 else (0.0, 0.0)
    return shares


def remove_alive_files(folder: Path) -> None:
    """Remove the files that killed workers left in the folder of checkpoints."""
    for path in folder.glob(f"*{SUFFIX}"):
        path.unlink(missing_ok=True)


class Watchdog:
    """Notices packs that have reported no progress for too long.

    It checks whether the modification time of a pack's progress file changes. The clock of this process measures the
    time between changes, because the clocks of other machines differ. The time of a pack counts from its first report
    after `watch`, because the pack may first wait for a free worker. Time in which this process was stopped does not
    count.

    Args:
        folder: The folder of checkpoints.
        patience: Seconds without a report after which a pack is stuck.
        clock: Returns seconds that never decrease.
    """

    def __init__(self, folder: Path, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience = patience
        self._folder, self._clock = folder, clock
        # By pack id: the modification time of the last report, and the time at which this process noticed it. The
        # second time is infinite until a worker reports after `watch`, because an old report may come from an earlier
        # worker.
        self._seen: dict[str, tuple[int | None, float]] = {}
        self._looked = clock()

    def watch(self, pack_id: str) -> None:
        """Start to watch a pack that is submitted, or submitted again."""
        self._seen[pack_id] = self._modified(pack_id), math.inf

    def forgive(self, pack_id: str) -> None:
        """Count the time without a report from now on, because the pack's worker was suspended until now."""
        last, since = self._seen[pack_id]
        self._seen[pack_id] = last, max(since, self._clock())

    def has_started(self, pack_id: str) -> bool:
        """Return whether a worker has reported progress on the pack since it was submitted."""
        self.stuck([pack_id])
        return math.isfinite(self._seen[pack_id][1])

    def stuck(self, pack_ids: Iterable[str]) -> list[str]:
        """Return the packs that have reported no progress for too long.

        Args:
            pack_ids: Ids of watched packs.

        Returns:
            The ids of the stuck packs.
        """
        now, stuck = self._clock(), []
        if (asleep := now - self._looked) > ASLEEP_AFTER:
            self._seen = {pack_id: (last, since + asleep) for pack_id, (last, since) in self._seen.items()}
        self._looked = now
        for pack_id in pack_ids:
            last, since = self._seen[pack_id]
            modified = self._modified(pack_id)
            if modified is not None and modified != last:
                self._seen[pack_id] = modified, now
            elif now - since > self.patience:
                stuck.append(pack_id)
        return stuck

    def _modified(self, pack_id: str) -> int | None:
        try:
            return (self._folder / f"{pack_id}{SUFFIX}").stat().st_mtime_ns
        except OSError:
            return None

    @property
    def reason(self) -> str:
        """Why a stuck pack failed, as text for the log."""
        return f"reported no progress for {self.patience:g} s"
