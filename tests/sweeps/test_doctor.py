from __future__ import annotations

import json
from pathlib import Path

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps.doctor import examine


def test_it_says_what_this_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISESCALE_DATA", str(tmp_path))
    monkeypatch.setattr("noisescale.datasets.files.user_cache", lambda: tmp_path / "cache")
    found = examine()
    assert json.loads(json.dumps(found)) == found
    assert found["schema_version"] == 1
    assert found["packages"]["torch"] != "missing"
    assert found["data"]["digits"] == found["data"]["mnist1d"] == "embedded"
    assert found["data"]["mnist"].startswith("not found")
    file = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    file.parent.mkdir()
    file.touch()
    assert examine()["data"]["mnist"] == str(file)


def test_a_data_folder_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISESCALE_DATA", "no such folder")
    with pytest.raises(BadInput, match="NOISESCALE_DATA"):
        examine()
