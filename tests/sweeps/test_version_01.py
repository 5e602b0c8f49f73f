"""A study of version 0.1 opens, keeps the ids of its runs, and continues.

`tests/store/version-0.1` holds the folder of this study: a sweep of SGD with the weight decay that version 0.1 called
"decoupled" and that is now called "independent".
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from noisescale.errors import BadInput
from noisescale.laws import fit
from noisescale.runs import Run
from noisescale.store import Study
from noisescale.sweeps import SweepSpec, status, sweep

STORED = Path(__file__).parents[1] / "store" / "version-0.1"
RUNS = 128


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "study"))


def spec(folder: Path, *overrides: str) -> SweepSpec:
    text = folder / "spec.toml"
    moved = folder.parent / "spec.toml"
    if text.exists():  # a sweep's folder may hold no other files
        text.rename(moved)
    return SweepSpec.from_toml(moved, overrides)


def test_the_study_opens_with_the_names_of_this_version(folder: Path) -> None:
    runs = Study.open(folder).runs()
    assert len(runs) == RUNS
    assert set(runs.decay) == {"independent"} and set(runs.optimizer) == {"sgd"}
    stable = runs[(runs.purpose == "sweep") & (runs.momentum == 0.0)]
    expected = stable.learning_rate * (200 / 16 - 1)
    assert stable.noise_scale.to_numpy() == pytest.approx(expected.to_numpy())
    assert runs.adam_temperature.isna().all()
    assert fit(Study.open(folder)).groups


def test_runs_keep_their_ids(folder: Path) -> None:
    for record in Study.open(folder).runs().to_dict("records"):
        assert Run.from_record(record).run_id == record["run_id"]


def test_nothing_is_trained_again(folder: Path) -> None:
    before = sorted(path.name for path in (folder / "shards").iterdir())
    sweep(spec(folder), folder, jobs=1, quiet=True)
    assert sorted(path.name for path in (folder / "shards").iterdir()) == before
    assert status(folder).completed == RUNS


def test_more_seeds_train_only_new_runs(folder: Path) -> None:
    old = set(Study.open(folder).runs().run_id)
    study = sweep(spec(folder, "seeds=3"), folder, jobs=1, quiet=True)
    runs = study.runs()
    new = runs[~runs.run_id.isin(old)]
    assert old <= set(runs.run_id)
    assert set(new[new.purpose == "sweep"].seed) == {2}
    assert len(new[new.purpose == "sweep"]) == 2 * 3 * 2


def test_the_new_meaning_of_decoupled_decay_is_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"training\.decay"):
        sweep(spec(folder, 'training.decay="decoupled"'), folder, jobs=1, quiet=True)
