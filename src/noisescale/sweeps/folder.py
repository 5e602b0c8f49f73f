"""A sweep's folder: created or continued for one spec, and driven by one process at a time."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from noisescale.errors import BadInput
from noisescale.store import FAILURES, SHARDS, SPEC, parse_spec, write_atomically
from noisescale.sweeps.lock import FULL, LOCK, UNFINISHED
from noisescale.sweeps.spec import SweepSpec
from noisescale.sweeps.spec_fields import SpecFields
from noisescale.sweeps.watchdog import clear_signs

KERNELS, CHECKPOINTS = "kernels", "checkpoints"
DAMAGED = "damaged"


def create_folder(folder: Path) -> None:
    """Create the folder, empty.

    Raises:
        BadInput: It cannot be created. OSError: the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise BadInput(_shown(folder), "an output folder that can be created", error.strerror) from None


def prepare_folder(folder: Path, spec: SweepSpec) -> None:
    """Store the spec in its folder, after the same check, and clear away what killed writers left; the lock is held.

    Raises:
        BadInput: As `check_folder`. OSError: the folder cannot be written.
    """
    check_folder(folder, spec)
    text = json.dumps(as_plain(spec), indent=1)
    path = folder / SPEC
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, lambda file: file.write(text.encode()))
    (folder / UNFINISHED).touch()
    for part in (folder / SHARDS, folder / FAILURES):
        part.mkdir(exist_ok=True)
    for part in (folder, folder / SHARDS, folder / FAILURES, folder / CHECKPOINTS, folder / KERNELS):
        for leftover in part.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
    clear_signs(folder / CHECKPOINTS)


def mark_done(folder: Path) -> None:
    """Note that the sweep wants nothing more; where that fails, `status` goes on to say that it may."""
    with contextlib.suppress(OSError):
        (folder / UNFINISHED).unlink(missing_ok=True)


def check_folder(folder: Path, spec: SweepSpec) -> None:
    """Refuse a folder that this spec cannot use; nothing is written.

    Raises:
        BadInput: The folder holds something else, or a spec that differs in more than a growing grid or more seeds; the
            message names the keys.
    """
    try:
        taken = folder.exists()
    except OSError as error:  # a name too long, or a parent that may not be entered
        raise BadInput(_shown(folder), "a path where a folder can be created", error.strerror) from None
    if taken and not folder.is_dir():
        raise BadInput(str(folder), "a folder, or a path where one can be created", "a file")
    path = folder / SPEC
    if path.exists():
        differences = spec_differences(_with_later_keys(_read_spec(path)), as_plain(spec))
        if differences:
            required = (
                "the spec that this folder was begun with, or one that only grows its grid or seeds; use another --out"
            )
            raise BadInput(str(folder), required, "other values of " + ", ".join(differences))
    elif folder.is_dir() and not all(map(_is_ours, folder.iterdir())):
        raise BadInput(str(folder), "a new or empty folder, or one that a sweep wrote", "a folder with other files")


def _shown(folder: Path) -> str:
    text = str(folder)
    return text if len(text) <= 100 else f"{text[:60]}…{text[-30:]}"


def _is_ours(entry: Path) -> bool:
    """What a driver may leave that is killed before it has stored its spec."""
    return entry.name == LOCK or entry.name.startswith(f".{SPEC}.")


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    return parse_spec(text, path)


def _with_later_keys(values: dict[str, Any]) -> dict[str, Any]:
    """A stored spec with the keys that came after it, at their defaults, so that a newer version continues it."""
    training, grid = values.get("training"), values.get("grid")
    if isinstance(training, dict) and isinstance(grid, dict) and "optimizer" not in grid:
        # Version 0.1 wrote the default decay out, and called "decoupled" what is "independent" now.
        stored = {"coupled": None, "decoupled": "independent"}
        values = {**values, "training": {**training, "decay": stored.get(training.get("decay", "coupled"))}}
    try:
        return as_plain(SweepSpec.from_dict(values))
    except BadInput:  # what is not understood is compared as it stands
        return values


def as_plain(spec: SpecFields) -> dict[str, Any]:
    """The spec as JSON holds it: every default written out, ladders as lists."""
    plain: dict[str, Any] = json.loads(spec.model_dump_json())
    return plain


def spec_differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """The keys in which `new` is not `old` with a larger grid or more seeds."""
    differences = []
    for key in sorted(old.keys() | new.keys()):
        name, before, after = f"{prefix}{key}", old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            differences += spec_differences(before, after, f"{name}.")
        elif before != after and not (
            (_may_grow(name) and _grows(before, after))
            or _is_first_base(name, before)
            or _is_default_decay(name, before, after)
        ):
            differences.append(name)
    return differences


def _may_grow(name: str) -> bool:
    return name == "seeds" or name.startswith("grid.")


def _is_first_base(name: str, before: Any) -> bool:
    """A base width where none of the folder's parameterizations used one changes none of its runs."""
    return name == "grid.base_width" and before is None


def _is_default_decay(name: str, before: Any, after: Any) -> bool:
    """Only SGD has coupled decay, and it is SGD's default."""
    return name == "training.decay" and {before, after} == {None, "coupled"}


def _grows(before: Any, after: Any) -> bool:
    return isinstance(before, list) and isinstance(after, list) and all(entry in after for entry in before)
