"""docs/spec.md names every key of a spec with its default and its choices, and no key that does not exist."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from noisescale.datasets.load import KNOWN_DATASETS
from noisescale.families import FAMILIES
from noisescale.families.activations import ACTIVATIONS
from noisescale.measure.packs import INSTRUMENTS
from noisescale.parameterizations import PARAMETERIZATIONS
from noisescale.sweeps.spec import RATE_AXES, SweepSpec
from noisescale.training import DECAYS
from noisescale.training.augmentation import AUGMENTATIONS
from noisescale.training.losses import LOSSES
from noisescale.training.precision import PRECISIONS
from noisescale.training.sampling import SAMPLINGS
from noisescale.training.schedules import SCHEDULES, Schedule

PAGE = (Path(__file__).parents[1] / "docs" / "spec.md").read_text(encoding="utf-8")
TOP = "Top level"
COLUMNS = ["key", "type and allowed values", "default", "meaning", "source"]
CHOICES = {
    ("dataset", "name"): KNOWN_DATASETS,
    ("model", "family"): FAMILIES,
    ("model", "activation"): ACTIVATIONS,
    ("grid", "parameterization"): PARAMETERIZATIONS,
    ("training", "loss"): LOSSES,
    ("training", "sampling"): SAMPLINGS,
    ("training", "precision"): PRECISIONS,
    ("training", "decay"): DECAYS,
    ("training", "augmentation"): AUGMENTATIONS,
    ("measure", "quantities"): INSTRUMENTS,
}

Tables = dict[str, dict[str, dict[str, str]]]


def tables(page: str) -> Tables:
    """Section to key to the row of its table, by column."""
    found: Tables = {}
    section = ""
    for line in page.splitlines():
        if heading := re.fullmatch(r"## (.*)", line):
            section = heading[1].strip("[]")
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == len(COLUMNS), line
            row = dict(zip(COLUMNS, cells, strict=True))
            key = row["key"].strip("`")
            assert key not in found.setdefault(section, {}), f"{section}.{key} twice"
            found[section][key] = row
    return found


def sections(model: type[BaseModel], name: str = TOP) -> Iterator[tuple[str, type[BaseModel]]]:
    """A section and all below it, under the names of their headings."""
    yield name, model
    for key, field in model.model_fields.items():
        if is_section(field):
            yield from sections(field.annotation, key if name == TOP else f"{name}.{key}")  # type: ignore[arg-type]


def is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def default_of(field: FieldInfo) -> str:
    """As the tables write it: TOML in backticks, or what TOML has no word for."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Schedule):
        return f"`{{ kind = {json.dumps(value.kind)} }}`"
    if is_section(field):
        assert value == field.annotation(), "a section's default is other than its keys' defaults"  # type: ignore[misc]
        return "its defaults"
    # JSON writes strings, numbers, booleans and lists of them as TOML does.
    return "not given" if value is None else f"`{json.dumps(value)}`"


def faults(page: str) -> list[str]:
    """Where the page and the models differ."""
    written, models = tables(page), dict(sections(SweepSpec))
    found = [f"[{name}] is no section" for name in written.keys() - models.keys()]
    for name, model in models.items():
        rows = written.get(name, {})
        found += [f"{name}: {key} does not exist" for key in rows.keys() - model.model_fields.keys()]
        for key, field in model.model_fields.items():
            if key not in rows:
                found.append(f"{name}: {key} is missing")
            elif rows[key]["default"] != default_of(field):
                found.append(f"{name}: {key} has default {default_of(field)}, not {rows[key]['default']}")
            elif not (rows[key]["type and allowed values"] and rows[key]["meaning"]):
                found.append(f"{name}: {key} is not explained")
    return found


def test_every_key_and_default_is_in_its_table_and_no_other() -> None:
    assert sum(len(model.model_fields) for _, model in sections(SweepSpec)) > 40
    assert faults(PAGE) == []


def changed(pattern: str, replacement: str) -> str:
    page, times = re.subn(pattern, replacement, PAGE, count=1, flags=re.MULTILINE)
    assert times == 1, pattern
    return page


@pytest.mark.parametrize(
    ("pattern", "replacement", "fault"),
    [
        (r"^\| `late_fraction` .*\n", "", "training: late_fraction is missing"),
        (r"\| `0.25` \|", "| `0.3` |", "training: late_fraction has default `0.25`, not `0.3`"),
        (r'\| `\{ kind = "constant" \}` \|', "| required |", "training: schedule has default"),
        (r"^\| `depth` ", "| `layers` ", "model: layers does not exist"),
        (r"^## \[stability\]", "## [edges]", "[edges] is no section"),
        (r"^\| `name` \| string \| required \|.*\|$", "| `name` | string | required | | |", "Top level: name is not"),
    ],
)
def test_a_page_that_differs_is_seen(pattern: str, replacement: str, fault: str) -> None:
    assert any(one.startswith(fault) for one in faults(changed(pattern, replacement)))


def test_every_choice_is_named_and_no_other() -> None:
    choices: dict[tuple[str, str], Any] = dict(CHOICES)
    for name, model in sections(SweepSpec):
        for key, field in model.model_fields.items():
            if get_origin(field.annotation) is Literal:
                choices[name, key] = get_args(field.annotation)
    assert ("fit", "select_on") in choices
    written = tables(PAGE)
    for (name, key), known in choices.items():
        named = re.findall(r'`"([^":]+)"`', written[name][key]["type and allowed values"])
        assert sorted(named) == sorted(known), f"{name}.{key}"


def test_every_kind_of_schedule_is_explained_with_its_options_and_defaults() -> None:
    shared = {field.name for field in fields(Schedule)}
    for kind, made in SCHEDULES.items():
        (options,) = re.findall(rf"^\| {kind} \| (.*?) \|", PAGE.replace("| |", "|  |"), flags=re.MULTILINE)
        own = [field for field in fields(made) if field.name not in shared]
        stated = {one.name: list(one.default) if isinstance(one.default, tuple) else one.default for one in own}
        assert tomllib.loads(f"x = {{ {options} }}")["x"] == stated
    for name in shared:
        assert f"`{name}" in PAGE.split("Every kind also takes")[1]


def test_the_rate_axes_and_no_others_are_marked_as_such() -> None:
    rows = tables(PAGE)["grid"]
    assert {key for key, row in rows.items() if row["meaning"].startswith("rate axis:")} == set(RATE_AXES)


def test_the_example_is_a_spec() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    spec = SweepSpec.from_dict(tomllib.loads(example))
    assert len(spec.seeds) == 10 and spec.grid.batch_size == (8, 11, 16, 23, 32)


def test_the_overrides_that_are_shown_are_accepted() -> None:
    examples = Path(__file__).parents[1] / "examples"
    commands = re.findall(r"^noisescale sweep examples/(\S+) (.*)$", PAGE, flags=re.MULTILINE)
    assert len(commands) >= 3
    for name, rest in commands:
        overrides = [one or other for one, other in re.findall(r"--set (?:'([^']*)'|(\S+))", rest)]
        assert overrides
        SweepSpec.from_toml(examples / name, tuple(overrides))


def test_lines_are_short_outside_tables() -> None:
    assert [line for line in PAGE.splitlines() if len(line) > 120 and not line.startswith("|")] == []
