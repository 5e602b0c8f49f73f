from __future__ import annotations

import json
from pathlib import Path

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps.doctor import examine


def test_doctor_describes_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISESCALE_DATA", str(tmp_path))
    monkeypatch.setattr("noisescale.datasets.files.user_cache", lambda: tmp_path / "cache")
    machine = examine()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["schema_version"] == 1
    assert machine["packages"]["torch"] != "missing"
    assert machine["data"]["digits"] == machine["data"]["mnist1d"] == "embedded"
    assert machine["data"]["mnist"].startswith("not found")
    file = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    file.parent.mkdir()
    file.touch()
    assert examine()["data"]["mnist"] == str(file)


def test_a_missing_data_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISESCALE_DATA", "no such folder")
    with pytest.raises(BadInput, match="NOISESCALE_DATA"):
        examine()
