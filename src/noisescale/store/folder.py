"""The files of a study's folder: their names, the stored spec, and the record of each failed pack.

A pack is a set of runs that train together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisescale.errors import BadInput, check_texts, printable
from noisescale.runs import Run

SPEC = "spec.json"
# The subfolder with the results of finished packs, one Parquet file per pack until files are joined.
SHARDS = "shards"
# The subfolder with one record for each pack whose last attempt failed.
FAILURES = "failures"

_SPEC_SECTIONS = ("dataset", "model", "grid", "training", "measure", "fit", "stability")


def read_spec(folder: Path) -> dict[str, Any]:
    """Read the spec that a sweep stored in its folder, with every default written out.

    Args:
        folder: The folder of the sweep.

    Returns:
        The spec as a dictionary of sections.

    Raises:
        BadInput: The folder holds no sweep, or its spec is damaged.
    """
    try:
        text = (folder / SPEC).read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise BadInput(str(folder), f"a folder that `noisescale sweep` wrote (with {SPEC})", "none") from None
    return parse_spec(text, folder / SPEC)


def parse_spec(text: str, path: Path) -> dict[str, Any]:
    """Parse a stored spec.

    Args:
        text: The contents of the file.
        path: The file, for messages.

    Returns:
        The spec as a dictionary of sections.

    Raises:
        BadInput: A sweep did not write this text.
    """

    def refuse(number: str) -> None:
        raise ValueError(f"{number} is not a JSON number")

    try:
        spec = json.loads(text, parse_constant=refuse)
        check_texts(spec)
    except (ValueError, RecursionError):
        spec = None
    if not isinstance(spec, dict) or any(not isinstance(spec.get(name, {}), dict) for name in _SPEC_SECTIONS):
        raise BadInput(str(path), "the spec as a sweep wrote it", "something else")
    _complete_schedules(spec)
    return spec


def _complete_schedules(spec: dict[str, Any]) -> None:
    """Say of each schedule with a warm-up where its fall begins. Version 0.1 had no such key: at the first step."""
    several = spec.get("grid", {}).get("schedule")
    for table in (spec.get("training", {}).get("schedule"), *(several if isinstance(several, list) else ())):
        if isinstance(table, dict) and table.get("warmup") and table.get("kind") in ("cosine", "linear"):
            table.setdefault("after_warmup", False)


@dataclass(frozen=True)
class Failure:
    """The error and the runs of a pack whose last attempt failed.

    Args:
        error: The message of the exception.
        runs: The runs of the pack; empty if the record is damaged.
    """

    error: str
    runs: tuple[Run, ...]

    def text(self) -> str:
        """Return the record as JSON text."""
        return json.dumps({"error": self.error, "runs": [{**run.as_dict(), "run_id": run.run_id} for run in self.runs]})


def read_failures(folder: Path) -> dict[str, Failure]:
    """Read the record of every failed pack.

    Args:
        folder: The folder of the sweep.

    Returns:
        The failures by pack id. A damaged record gives a failure without runs.
    """
    return {printable(path.stem): _read_failure(path) for path in sorted((folder / FAILURES).glob("*.json"))}


def _read_failure(path: Path) -> Failure:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        error, records = values["error"], values["runs"]
        runs = tuple(Run.from_record(record) for record in records)
        # A run's id is a digest of its whole configuration, so an edited record does not match.
        intact = all(run.run_id == record["run_id"] for run, record in zip(runs, records, strict=True))
        if isinstance(error, str) and intact:
            return Failure(printable(error), runs)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return Failure("its record is damaged", ())
