"""`status`: runs by state, read from the folder alone, so that it works from another terminal."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from noisescale.store import SHARDS, Study, finished_packs, read_failures
from noisescale.sweeps.folder import UNFINISHED, is_driven
from noisescale.sweeps.log import described
from noisescale.sweeps.plan import planned_sizes


@dataclass(frozen=True, slots=True)
class Status:
    """Runs by state.

    Arguments:
        missing: planned runs without a result. finished: whether the sweep has come to its end: until then it may want
            runs that are not planned yet. failed: which runs and why, by pack id. running: whether a driver holds the
            folder.
        runs_per_second, seconds_left: the driver's own. heartbeat_age: seconds since its last sign of life.
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
        """The keys of docs/schemas/status.json."""
        return {"schema_version": 1, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """What a person reads."""
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
            more = "" if self.missing else "more may be wanted than is planned so far; "
            yield f"not running; {more}the same `noisescale sweep` command continues it"


def status(folder: str | Path) -> Status:
    """Read a folder's state without touching it.

    Raises:
        BadInput: the folder holds no sweep.
    """
    study = Study.open(folder)
    path = study.folder
    runs = study.finished()
    heartbeat = _heartbeat(path / "heartbeat.json")
    running = is_driven(path)
    return Status(
        completed=int((runs.status == "completed").sum()),
        diverged=int((runs.status == "diverged").sum()),
        missing=missing_runs(path),
        finished=not (path / UNFINISHED).exists(),
        failed=_failed(study),
        running=running,
        runs_per_second=heartbeat.get("runs_per_second") if running else None,
        seconds_left=_seconds_left(heartbeat) if running else None,
        # A clock that was set back makes no negative age.
        heartbeat_age=max(0.0, time.time() - heartbeat["time"]) if heartbeat else None,
    )


def _seconds_left(heartbeat: dict[str, Any]) -> float | None:
    """The driver's estimate; its sums of floats may end a little below zero."""
    left: float | None = heartbeat.get("seconds_left")
    return None if left is None else max(0.0, left)


def missing_runs(folder: Path, failed: Iterable[str] = ()) -> int:
    """Planned runs without a result, from the names of the shards alone; those of failed packs may be left out."""
    done = finished_packs(folder / SHARDS).union(failed)
    return sum(size for pack_id, size in planned_sizes(folder / "plan.jsonl").items() if pack_id not in done)


def _failed(study: Study) -> dict[str, str]:
    """The runs of each pack that failed at its last attempt, as far as they share anything, and why."""
    finished, found = set(study.finished().run_id), {}
    for pack_id, failure in read_failures(study.folder).items():
        if left := [run for run in failure.runs if run.run_id not in finished]:
            found[pack_id] = f"{described(left)}: {failure.error}"
    return found


def _heartbeat(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        beat = {name: _number(values.get(name)) for name in ("time", "seconds_left", "runs_per_second")}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return {} if beat["time"] is None else beat


def _number(value: object) -> float | None:
    return value if type(value) in (int, float) and math.isfinite(value) else None  # type: ignore[arg-type,return-value]
