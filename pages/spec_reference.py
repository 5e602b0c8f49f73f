"""Write the tables of docs/spec.md from the fields of the spec, with the default and the meaning of every key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from noisescale.sweeps import SweepSpec
from noisescale.training import Schedule

PAGE = Path(__file__).parents[1] / "docs" / "spec.md"
TOP = "Top level"
COLUMNS = ("key", "type and allowed values", "default", "meaning", "source")


def sections(model: type[BaseModel] = SweepSpec, name: str = TOP) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each section under the name of its heading."""
    yield name, model
    for key, field in model.model_fields.items():
        if is_section(field):
            yield from sections(field.annotation, key if name == TOP else f"{name}.{key}")  # type: ignore[arg-type]


def is_section(field: FieldInfo) -> bool:
    """Return whether a field is a section with keys."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def default_of(field: FieldInfo) -> str:
    """Return a default in the syntax of TOML, in backticks. If TOML has no syntax for it, return it in words."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Schedule):
        return f"`{{ kind = {json.dumps(value.kind)} }}`"
    if is_section(field):
        return "its defaults"
    # JSON and TOML have the same syntax for strings, numbers, booleans and lists of these.
    return "not given" if value is None else f"`{json.dumps(value)}`"


def table(model: type[BaseModel]) -> str:
    """Return the table of a section."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for key, field in model.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict) and field.description, f"{key} has no row of the reference page"
        cells = (f"`{key}`", str(extra["accepts"]), default_of(field), field.description, str(extra["source"]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(re.sub(r"  +", " ", line) for line in lines)


def render(page: str) -> str:
    """Replace the table under the heading of each section.

    Args:
        page: The page with a heading and a table for each section.

    Returns:
        The page with new tables.
    """
    for name, model in sections():
        heading = re.escape(f"## {name}" if name == TOP else f"## [{name}]")
        pattern = re.compile(rf"(^{heading}\n(?:(?!## ).*\n)*?)((?:\|.*\n)+)", re.MULTILINE)
        text = table(model)
        page, times = pattern.subn(lambda match, text=text: f"{match[1]}{text}\n", page, count=1)  # type: ignore[misc]
        assert times == 1, f"docs/spec.md has no table under {name}"
    return page


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
