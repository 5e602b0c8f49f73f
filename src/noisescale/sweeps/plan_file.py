"""Functions that read the stored plan of a sweep. Each line of the file holds one pack (runs that train together)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from noisescale.errors import BadInput
from noisescale.runs import Run, pack_id

PLAN = "plan.jsonl"


def plan_records(path: Path) -> Iterator[dict[str, Any]]:
    """Read a plan line by line; a missing file has no lines.

    Args:
        path: The file of the plan.

    Yields:
        Records with the keys `pack_id`, `seconds` (estimated) and `runs` (a list of dictionaries, not checked).

    Raises:
        BadInput: The file is not a plan.
    """
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield _checked(json.loads(line))
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from None


def planned_runs(record: dict[str, Any], path: Path) -> tuple[Run, ...]:
    """Return the runs of one record, after checking that the pack's id is the digest of their ids.

    Args:
        record: A record of `plan_records`.
        path: The file of the plan, for messages.

    Returns:
        The runs of the pack.

    Raises:
        BadInput: The runs do not match the id of the pack.
    """
    try:
        runs = tuple(Run.from_record(run) for run in record["runs"])
        if record["pack_id"] == pack_id(list(runs)):
            return runs
    except (ValueError, TypeError):
        pass
    raise _damaged(path, f"runs that do not match the id {record['pack_id']} of their pack")


def planned_sizes(path: Path) -> dict[str, int]:
    """Return the number of runs of each planned pack, by pack id. This takes a tenth of the time of building `Plan`."""
    return {record["pack_id"]: len(record["runs"]) for record in plan_records(path)}


def planned_data(path: Path) -> dict[float, set[str]]:
    """Return the digests of the data with which the packs were planned, by the fraction of redrawn labels."""
    digests: dict[float, set[str]] = {}
    for record in plan_records(path):
        try:
            run = Run.from_record(record["runs"][0])
            digests.setdefault(run.label_noise, set()).add(run.dataset_hash)
        except TypeError as error:
            raise _damaged(path, error) from None
    return digests


def _checked(record: Any) -> dict[str, Any]:
    """Check one line of a plan: it must hold at least one run. The contents of the runs are not checked."""
    name, seconds, runs = record["pack_id"], record["seconds"], record["runs"]
    is_time = type(seconds) in (int, float) and math.isfinite(seconds)
    if not (is_time and isinstance(name, str) and isinstance(runs, list) and isinstance(runs[0], dict)):
        raise ValueError("a line that does not describe a pack")
    return {"pack_id": name, "seconds": seconds, "runs": runs}


def _damaged(path: Path, reason: object) -> BadInput:
    required = "the plan as a sweep wrote it; without the file the same `noisescale sweep` plans again what is missing"
    return BadInput(str(path), required, reason)
