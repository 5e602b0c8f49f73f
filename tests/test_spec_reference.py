"""docs/spec.md is what the fields of the spec say: every key with its default and its choices, and no other."""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from noisescale.datasets import KNOWN_DATASETS
from noisescale.families import ACTIVATIONS, FAMILIES, NORMALIZATIONS
from noisescale.measure import INSTRUMENTS
from noisescale.parameterizations import PARAMETERIZATIONS
from noisescale.sweeps import SweepSpec
from noisescale.sweeps.spec_grid import RATE_AXES
from noisescale.training import (
    AUGMENTATIONS,
    DECAYS,
    LOSSES,
    METRICS,
    NO_DECAY,
    OPTIMIZERS,
    PRECISIONS,
    SAMPLINGS,
    Schedule,
)
from noisescale.training.schedules import SCHEDULES

sys.path.insert(0, str(Path(__file__).parents[1] / "pages"))
from spec_reference import COLUMNS, render, sections

PAGE = (Path(__file__).parents[1] / "docs" / "spec.md").read_text(encoding="utf-8")
CHOICES = {
    ("dataset", "name"): KNOWN_DATASETS,
    ("model", "family"): FAMILIES,
    ("model", "activation"): ACTIVATIONS,
    ("model", "normalization"): NORMALIZATIONS,
    ("grid", "parameterization"): PARAMETERIZATIONS,
    ("grid", "optimizer"): OPTIMIZERS,
    ("training", "loss"): LOSSES,
    ("training", "sampling"): SAMPLINGS,
    ("training", "precision"): PRECISIONS,
    ("training", "decay"): DECAYS,
    ("training", "no_decay"): NO_DECAY,
    ("training", "augmentation"): AUGMENTATIONS,
    ("measure", "quantities"): INSTRUMENTS,
    ("fit", "metric"): METRICS,
}

Tables = dict[str, dict[str, dict[str, str]]]


def tables(page: str) -> Tables:
    """Section to key to the row of its table, by column."""
    rows: Tables = {}
    section = ""
    for line in page.splitlines():
        if heading := re.fullmatch(r"## (.*)", line):
            section = heading[1].strip("[]")
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == len(COLUMNS), line
            row = dict(zip(COLUMNS, cells, strict=True))
            key = row["key"].strip("`")
            assert key not in rows.setdefault(section, {}), f"{section}.{key} twice"
            rows[section][key] = row
    return rows


def test_the_page_is_what_the_fields_say() -> None:
    assert sum(len(model.model_fields) for _, model in sections()) > 40
    assert render(PAGE) == PAGE, "run `make pages`"


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"^\| `late_fraction` .*\n", ""),
        (r"\| `0.25` \|", "| `0.3` |"),
        (r'\| `\{ kind = "constant" \}` \|', "| required |"),
        (r"^\| `depth` ", "| `layers` "),
        (r"^\| `name` \| string \| required \|.*\|$", "| `name` | string | required | | |"),
    ],
)
def test_a_page_that_differs_is_seen(pattern: str, replacement: str) -> None:
    changed, times = re.subn(pattern, replacement, PAGE, count=1, flags=re.MULTILINE)
    assert times == 1 and render(changed) == PAGE != changed


def test_a_section_without_its_table_is_seen() -> None:
    with pytest.raises(AssertionError, match="stability"):
        render(PAGE.replace("## [stability]", "## [edges]"))


def test_every_choice_is_named_and_no_other() -> None:
    choices: dict[tuple[str, str], Any] = dict(CHOICES)
    for name, model in sections():
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
        specific = [field for field in fields(made) if field.name not in {*shared, "after_warmup"}]
        stated = {one.name: list(one.default) if isinstance(one.default, tuple) else one.default for one in specific}
        assert tomllib.loads(f"x = {{ {options} }}")["x"] == stated
    for name in (*shared, "after_warmup"):
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
