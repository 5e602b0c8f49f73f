"""The folder of a sweep: functions that create it for a spec, prepare it to continue, and refuse a different spec."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from noisescale.errors import BadInput
from noisescale.store import FAILURES, SHARDS, SPEC, check_readable, check_writable, parse_spec, write_atomically
from noisescale.sweeps.lock import FULL, LOCK, UNFINISHED
from noisescale.sweeps.spec import SweepSpec
from noisescale.sweeps.spec_fields import SpecFields
from noisescale.sweeps.spec_values import Section
from noisescale.sweeps.watchdog import remove_alive_files

# Subfolders: the measured choice of kernels, the checkpoints of runs in training, and damaged files of results.
KERNELS, CHECKPOINTS, DAMAGED = "kernels", "checkpoints", "damaged"


def create_folder(folder: Path) -> None:
    """Create an empty folder, if it does not exist.

    Args:
        folder: The folder of the sweep.

    Raises:
        BadInput: The folder cannot be created.
        OSError: The disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise BadInput(_shortened(folder), "an output folder that can be created", error.strerror) from None


def prepare_folder(folder: Path, spec: SweepSpec) -> None:
    """Check the folder, store the spec in it, and remove temporary files of killed processes. The caller has the lock.

    Args:
        folder: The folder of the sweep.
        spec: The spec of the sweep.

    Raises:
        BadInput: `check_folder` refuses the folder, or a link leads out of it.
        OSError: The folder cannot be written.
    """
    check_writable(folder)
    check_folder(folder, spec)
    text = json.dumps(as_plain(continued_spec(folder, spec)), indent=1)
    path = folder / SPEC
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, lambda file: file.write(text.encode()))
    if not (folder / UNFINISHED).exists():  # a link would get another time
        (folder / UNFINISHED).touch()
    for subfolder in (folder / SHARDS, folder / FAILURES):
        subfolder.mkdir(exist_ok=True)
    for subfolder in (folder, folder / SHARDS, folder / FAILURES, folder / CHECKPOINTS, folder / KERNELS):
        for leftover in subfolder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
    remove_alive_files(folder / CHECKPOINTS)


# The values of `[stability]` that versions without these keys used implicitly.
_STABILITY_BEFORE: dict[str, Any] = {"price": False, "schedule": "constant"}


def continued_spec(folder: Path, spec: SweepSpec) -> SweepSpec:
    """Return the spec with which a folder continues.

    Where the spec does not state `stability.price`, `stability.schedule` or `dataset.standardize`, the folder's stored
    value holds. A folder of a version without the first two measured no price, and its stability ladders have constant
    rates. It continues so. Older versions standardized whole numbers [N, T] and stored `true`.

    Args:
        folder: The folder of the sweep, which may not exist yet.
        spec: The spec of the sweep.

    Raises:
        BadInput: The stored spec is damaged.
    """
    if not (folder / SPEC).exists():
        return spec
    record = _read_spec(folder / SPEC)
    stored = {**_STABILITY_BEFORE, **(record.get("stability") or {})}
    values = {"price": stored["price"] is True, "schedule": "run" if stored["schedule"] == "run" else "constant"}
    changes = {name: value for name, value in values.items() if name not in spec.stability.model_fields_set}
    update: dict[str, Section] = {"stability": spec.stability.model_copy(update=changes)}
    if spec.dataset.standardize is None and (record.get("dataset") or {}).get("standardize", True) is True:
        update["dataset"] = spec.dataset.model_copy(update={"standardize": True})
    return spec.model_copy(update=update)


def mark_done(folder: Path) -> None:
    """Mark the sweep as finished. If that fails, `status` reports that the sweep may plan further runs."""
    with contextlib.suppress(OSError):
        (folder / UNFINISHED).unlink(missing_ok=True)


def check_folder(folder: Path, spec: SweepSpec) -> None:
    """Check that this spec can use the folder. Nothing is written.

    Args:
        folder: The folder of the sweep.
        spec: The spec of the sweep.

    Raises:
        BadInput: The folder holds other files, or a spec that differs in more than a larger grid or more seeds. The
            message names the keys.
    """
    try:
        exists = folder.exists()
    except OSError as error:  # a name too long, or a parent that may not be entered
        raise BadInput(_shortened(folder), "a path where a folder can be created", error.strerror) from None
    if exists and not folder.is_dir():
        raise BadInput(str(folder), "a folder, or a path where one can be created", "a file")
    check_readable(folder)
    path = folder / SPEC
    if path.exists():
        differences = spec_differences(_with_later_keys(_read_spec(path)), as_plain(continued_spec(folder, spec)))
        if differences:
            required = "the spec that created this folder, with at most a larger grid or more seeds; use another --out"
            raise BadInput(str(folder), required, "other values of " + ", ".join(differences))
    elif folder.is_dir() and not all(map(_is_startup_file, folder.iterdir())):
        raise BadInput(str(folder), "a new or empty folder, or one that a sweep wrote", "a folder with other files")


def _shortened(folder: Path) -> str:
    text = str(folder)
    return text if len(text) <= 100 else f"{text[:60]}…{text[-30:]}"


def _is_startup_file(entry: Path) -> bool:
    """Return whether a driver writes this file before it stores the spec. A killed driver may leave it."""
    return entry.name == LOCK or entry.name.startswith(f".{SPEC}.")


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    return parse_spec(text, path)


def spec_of_record(values: dict[str, Any]) -> SweepSpec:
    """Check a stored spec, which may be of an older version.

    Args:
        values: The stored spec.

    Raises:
        BadInput: This version does not accept the spec.
    """
    training, grid = values.get("training"), values.get("grid")
    if isinstance(training, dict) and isinstance(grid, dict) and "optimizer" not in grid:
        # Version 0.1 stored the default decay, and called "decoupled" what is now called "independent".
        stored = {"coupled": None, "decoupled": "independent"}
        values = {**values, "training": {**training, "decay": stored.get(training.get("decay", "coupled"))}}
    if isinstance(stability := values.get("stability", {}), dict):
        values = {**values, "stability": {**_STABILITY_BEFORE, **stability}}
    if isinstance(dataset := values.get("dataset"), dict):
        values = {**values, "dataset": {"standardize": True, **dataset}}
    return SweepSpec.from_dict(values)


def _with_later_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of keys that a stored spec of an older version lacks, so that this version can continue it."""
    try:
        return as_plain(spec_of_record(values))
    except BadInput:  # the comparison then names the keys that this version does not accept
        return values


def as_plain(spec: SpecFields) -> dict[str, Any]:
    """Convert a spec to the values of its JSON file: every default is written out, and a ladder is a list."""
    plain: dict[str, Any] = json.loads(spec.model_dump_json())
    return plain


def spec_differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """List the keys in which two specs differ by more than a larger grid or more seeds.

    Args:
        old: The stored spec, or a section of it.
        new: The new spec, or a section of it.
        prefix: The name of the section with a dot at its end.

    Returns:
        Dotted keys, sorted.
    """
    differences = []
    for key in sorted(old.keys() | new.keys()):
        name, old_value, new_value = f"{prefix}{key}", old.get(key), new.get(key)
        if isinstance(old_value, dict) and isinstance(new_value, dict):
            differences += spec_differences(old_value, new_value, f"{name}.")
        elif old_value != new_value and not (
            (_may_grow(name) and _grows(old_value, new_value))
            or _is_first_base_width(name, old_value)
            or _is_default_decay(name, old_value, new_value)
            or _adds_prices(name, old_value)
            or _is_default_standardization(name, old_value, new_value)
        ):
            differences.append(name)
    return differences


def _may_grow(name: str) -> bool:
    return name == "seeds" or name.startswith("grid.")


def _is_first_base_width(name: str, old_value: Any) -> bool:
    """Return whether the stored spec had no base width. Its runs use none, so adding a base width changes no run."""
    return name == "grid.base_width" and old_value is None


def _is_default_decay(name: str, old_value: Any, new_value: Any) -> bool:
    """Return whether one spec omits the decay and the other states "coupled", which is the default of SGD."""
    return name == "training.decay" and {old_value, new_value} == {None, "coupled"}


def _adds_prices(name: str, old_value: Any) -> bool:
    """Return whether the stored spec measures no price. Measuring it adds runs and changes none."""
    return name == "stability.price" and old_value is False


def _is_default_standardization(name: str, old_value: Any, new_value: Any) -> bool:
    """Return whether one spec omits the standardization and the other states true. The hash shows if data differ."""
    return name == "dataset.standardize" and old_value in (None, True) and new_value in (None, True)


def _grows(old_value: Any, new_value: Any) -> bool:
    return (
        isinstance(old_value, list) and isinstance(new_value, list) and all(entry in new_value for entry in old_value)
    )
