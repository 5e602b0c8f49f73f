"""Shards of another study, copied into a folder: `fit` sets their runs aside and says which."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noisescale.cli import main
from noisescale.sweeps import SweepSpec, sweep

MakeSpec = Callable[..., SweepSpec]
OTHERS = [
    ({"grid__width": [3]}, "width 3, where the spec has 2"),
    ({"model__activation": "tanh"}, "activation tanh, where the spec has relu"),
    ({"model__depth": 2}, "depth 2, where the spec has 1"),
    ({"grid__parameterization": ["standard"]}, "parameterization standard, where the spec has ntk"),
    ({"dataset__train_size": 50}, "other data"),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> Path:
    folder = tmp_path_factory.mktemp("study")
    sweep(make_spec(), folder / "out", jobs=1, quiet=True)
    return folder / "out"


@pytest.mark.parametrize(("changes", "words"), OTHERS)
def test_foreign_runs_are_set_aside_by_name(
    changes: dict[str, Any], words: str, study: Path, tmp_path: Path, make_spec: MakeSpec,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = Path(shutil.copytree(study, tmp_path / "out"))
    assert main(["fit", str(folder), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    sweep(make_spec(**{"grid__learning_rate": [0.5], "seeds": 1, **changes}), tmp_path / "other", jobs=1, quiet=True)
    for path in (tmp_path / "other" / "shards").iterdir():
        shutil.copy(path, folder / "shards")
    assert main(["fit", str(folder), "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert "1 runs are set aside, because they are not of this study" in captured.err and words in captured.err
    assert answer["groups"] == expected["groups"]


def test_a_sweep_keeps_foreign_runs_and_trains_none_again(study: Path, tmp_path: Path, make_spec: MakeSpec) -> None:
    folder = Path(shutil.copytree(study, tmp_path / "out"))
    sweep(make_spec(grid__width=[3]), tmp_path / "other", jobs=1, quiet=True)
    for path in (tmp_path / "other" / "shards").iterdir():
        shutil.copy(path, folder / "shards")
    before = sorted((folder / "shards").iterdir())
    assert len(sweep(make_spec(), folder, jobs=1, quiet=True).runs()) == 8
    assert sorted((folder / "shards").iterdir()) == before
