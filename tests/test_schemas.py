"""The keys that docs/schemas lists are the keys that leave the program."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from noisescale.estimate import Estimate, as_json
from noisescale.laws import Check, CheckedSetting, Difference, Fit, Recommendation
from noisescale.laws import results as records
from noisescale.sweeps.doctor import examine
from noisescale.sweeps.folder_status import Status

SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas"
# Fields with another key in JSON, because a method has the name of the key.
RENAMED = {"optimizer_name": "optimizer", "schedule_text": "schedule"}
# Keys that an option of the command adds.
OPTIONAL = {"recommend": {"check"}}
WHOLE = {"fit": Fit, "recommend": Recommendation, "status": Status}


def schema(name: str) -> dict[str, Any]:
    """Return one schema as a dictionary."""
    values: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return values


@pytest.mark.parametrize("name", WHOLE)
def test_the_listed_keys_are_the_fields(name: str) -> None:
    listed = schema(name)
    keys = {RENAMED.get(field.name, field.name) for field in fields(WHOLE[name])}
    assert set(listed["required"]) - {"schema_version"} == keys - {"schema_version"}
    assert set(listed["required"]) == set(listed["properties"]) - OPTIONAL.get(name, set())


def test_the_parts_of_a_check_are_listed() -> None:
    parts = schema("recommend")["$defs"]
    for part in (Check, CheckedSetting, Difference):
        assert set(parts[part.__name__]["required"]) == {field.name for field in fields(part)}


def test_the_parts_of_a_fit_are_listed_too() -> None:
    parts = schema("fit")["$defs"]
    defined = [getattr(records, name) for name in parts if hasattr(records, name)]
    assert len(defined) >= 8
    for part in defined:
        assert is_dataclass(part)
        # Fields that pydantic excludes serve further computation and are not in the JSON form.
        described = getattr(part, "__pydantic_fields__", {})
        keys = {f.name for f in fields(part) if f.name not in described or not described[f.name].exclude}
        # The metrics of a cell are keys beside its others.
        keys = keys - {"metrics"} | {"accuracy", "loss"} if part.__name__ == "Cell" else keys
        assert set(parts[part.__name__]["required"]) == keys


def test_the_keys_of_doctor_are_listed() -> None:
    listed, examined = schema("doctor"), examine()
    assert set(listed["required"]) == set(listed["properties"]) == set(examined)
    assert examined["schema_version"] == listed["properties"]["schema_version"]["const"]


def test_an_estimate_has_the_five_keys() -> None:
    estimate = as_json(Estimate(1.0, 0.5, float("inf"), "examples", "g", standard_error=0.2))
    assert estimate == {"value": 1.0, "low": 0.5, "high": None, "unit": "examples", "convention": "g"}
    assert set(schema("fit")["$defs"]["Estimate"]["required"]) == set(estimate)
