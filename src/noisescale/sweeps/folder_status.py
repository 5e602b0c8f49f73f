"""The state of a sweep, read from its folder alone, so another terminal can show it while the sweep runs."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from noisescale.store import SHARDS, check_readable, finished_packs, read_failures, read_spec, read_statuses
from noisescale.sweeps.lock import UNFINISHED, is_driven
from noisescale.sweeps.log import describe_runs
from noisescale.sweeps.plan_file import PLAN, planned_sizes


@dataclass(frozen=True, slots=True)
class Status:
    """Counts of runs by state, and the state of the driver.

    Args:
        completed: Completed runs.
        diverged: Diverged runs.
        missing: Planned runs without a result.
        finished: True if the sweep has ended. Until then it may plan further runs.
        failed: By id of the pack (runs that train together), a description of its failed runs and the error.
        running: True if a driver (a process that runs the sweep) holds the folder.
        runs_per_second: Runs that the driver finishes per second; None if no driver is running.
        seconds_left: The driver's estimate of the remaining time, in seconds; None if no driver is running.
        heartbeat_age: Seconds since the driver last updated `heartbeat.json`; None without this file.
    """

    completed: int
    diverged: int
    missing: int
    finished: bool
    failed: dict[str, str]
    running: bool
    runs_per_second: float | None
    seconds_left: float | None
    heartbeat_age: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form, described in docs/schemas/status.json."""
        return {"schema_version": 1, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """Yield the lines that the terminal shows."""
        yield f"completed  {self.completed}"
        yield f"diverged   {self.diverged}"
        yield f"missing    {self.missing}"
        yield f"failed     {len(self.failed)} packs"
        for pack_id, error in self.failed.items():
            yield f"  {pack_id}  {error}"
        if self.running:
            left = "unknown" if self.seconds_left is None else f"{self.seconds_left:.0f} s"
            speed = "" if self.runs_per_second is None else f"{self.runs_per_second:.1f} runs/s, "
            yield f"running, {speed}time left {left}"
        elif self.missing or not self.finished:
            more = "" if self.missing else "the sweep may still plan further runs; "
            yield f"not running; {more}the same `noisescale sweep` command continues it"


def status(folder: str | Path) -> Status:
    """Read the state of a sweep without changing its folder.

    Args:
        folder: The folder of the sweep.

    Returns:
        The state.

    Raises:
        BadInput: The folder holds no sweep, or one of its files is damaged.
    """
    path = Path(folder)
    check_readable(path)
    read_spec(path)  # refuses a folder without a sweep
    statuses = read_statuses(path / SHARDS)
    counts = Counter(statuses.values())
    heartbeat = _heartbeat(path / "heartbeat.json")
    running = is_driven(path)
    return Status(
        completed=counts["completed"],
        diverged=counts["diverged"],
        missing=missing_runs(path),
        finished=not (path / UNFINISHED).exists(),
        failed=_failed(path, statuses),
        running=running,
        runs_per_second=heartbeat.get("runs_per_second") if running else None,
        seconds_left=_seconds_left(heartbeat) if running else None,
        # The clock may have been set back since the heartbeat.
        heartbeat_age=max(0.0, time.time() - heartbeat["time"]) if heartbeat else None,
    )


def missing_runs(folder: Path, failed: Iterable[str] = ()) -> int:
    """Count the planned runs without a result, from the names of the shards alone.

    Args:
        folder: The folder of the sweep.
        failed: Ids of packs whose runs are not counted.

    Returns:
        The number of runs.
    """
    done = finished_packs(folder / SHARDS).union(failed)
    return sum(size for pack_id, size in planned_sizes(folder / PLAN).items() if pack_id not in done)


def _failed(folder: Path, finished: Iterable[str]) -> dict[str, str]:
    """Describe, by pack id, the runs that failed at the last attempt and have no result from another pack."""
    finished, descriptions = set(finished), {}
    for pack_id, failure in read_failures(folder).items():
        if runs := [run for run in failure.runs if run.run_id not in finished]:
            descriptions[pack_id] = f"{describe_runs(runs)}: {failure.error}"
    return descriptions


def _seconds_left(heartbeat: dict[str, Any]) -> float | None:
    # The driver computes a difference of sums of floats, which rounding can make slightly negative.
    left: float | None = heartbeat.get("seconds_left")
    return None if left is None else max(0.0, left)


def _heartbeat(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        heartbeat = {name: _number(values.get(name)) for name in ("time", "seconds_left", "runs_per_second")}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return {} if heartbeat["time"] is None else heartbeat


def _number(value: object) -> float | None:
    return value if type(value) in (int, float) and math.isfinite(value) else None  # type: ignore[arg-type,return-value]
