"""The class `SweepSpec`, the checked contents of a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from noisescale.errors import BadInput, check_texts
from noisescale.runs import Run
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.grid_checks import check_grid
from noisescale.sweeps.spec_fields import SpecFields


class SweepSpec(SpecFields):
    """A sweep: data, model, grid, training, instruments, fit and stability ladder.

    The constructors `from_toml` and `from_dict` raise BadInput with the key, what is required and what was got.
    """

    def runs(self) -> list[Run]:
        """Load the data and return every run of the grid. Noise scales are converted to learning rates.

        Raises:
            BadInput: The data or the model cannot be used.
        """
        grid = Grid(self)
        check_grid(grid)
        return grid.runs()

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "the spec") -> SweepSpec:
        """Check a dictionary. The error names the key of the first fault."""
        try:
            check_texts(values)
        except ValueError as error:
            raise BadInput(source, "texts without control characters", error) from None
        except RecursionError:
            raise BadInput(source, "sections that are not nested", "nested sections") from None
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _first_fault(error, source) from None

    @classmethod
    def from_toml(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> SweepSpec:
        """Read a TOML file, also one that begins with a byte order mark.

        Args:
            path: The file.
            overrides: Replacements such as "training.steps=100", with the value written as in TOML.
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise BadInput(str(path), "a readable spec file", error.strerror) from None
        except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or nested too deeply
            raise BadInput(str(path), "a TOML file", error) from None
        for override in overrides:
            _apply(values, override)
        data = values.get("dataset")
        if isinstance(data, dict) and isinstance(data.get("path"), str):
            # A study may be continued or checked from another folder.
            data["path"] = str(Path(data["path"]).expanduser().absolute())
        return cls.from_dict(values, str(path))


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    *sections, last = key.strip().split(".")
    try:
        value = tomllib.loads(f"value = {text}")["value"] if separator else None
    except (ValueError, RecursionError):
        value = None
    if value is None or not last:
        raise BadInput("--set", "key=value with the value written as in TOML, e.g. training.steps=100", repr(override))
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise BadInput("--set", f"a key inside a section; {section!r} is a value", repr(override))
    values[last] = value


def _first_fault(error: ValidationError, source: str) -> BadInput:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"])
    got = fault["input"]
    if fault["type"] == "extra_forbidden":
        known = ", ".join(_known_keys(fault["loc"]))
        return BadInput(f"{source}: {key}", f"a known key; in this place: {known}", repr(fault["loc"][-1]))
    if fault["type"] == "missing":
        return BadInput(f"{source}: {key}", "this key, which has no default", "nothing")
    if fault["type"] == "model_type":
        return BadInput(f"{source}: {key}" if key else source, "a section with keys", _shown(got))
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    required, _, stated = message.partition("; got ")
    return BadInput(f"{source}: {key}" if key else source, required, stated or _shown(got))


def _shown(value: object) -> str:
    try:
        return repr(value)
    except RecursionError:
        return "values nested too deeply to be shown"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = SweepSpec
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return list(model.model_fields)
