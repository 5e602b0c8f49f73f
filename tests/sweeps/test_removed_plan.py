"""The checks of a folder do not depend on its plan, which may have been removed or forged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from noisescale.errors import BadInput
from noisescale.store import Study, comparable_runs
from noisescale.sweeps import SweepSpec, failures, status, sweep

MakeSpec = Callable[..., SweepSpec]
ARRAYS = """
import numpy as np

seed = 0

def arrays():
    generator = np.random.default_rng(seed)
    x, y = generator.standard_normal((80, 6)).astype("f4"), np.arange(80) % 3
    return x[:60], y[:60], x[60:], y[60:]
"""


def test_a_sweep_without_its_plan_trains_what_is_missing(tmp_path: Path, make_spec: MakeSpec) -> None:
    expected = sweep(make_spec(), tmp_path / "whole", jobs=1, quiet=True).runs()
    folder = tmp_path / "study"
    sweep(make_spec(grid__learning_rate=[0.5]), folder, jobs=1, quiet=True)
    before = {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}
    (folder / "plan.jsonl").unlink()
    assert status(folder).completed == 2
    runs = sweep(make_spec(), folder, jobs=1, quiet=True).runs()
    assert set(runs.run_id) == set(expected.run_id)
    assert (comparable_runs(runs).test_loss == comparable_runs(expected).test_loss).all()
    assert all((folder / "shards" / name).read_bytes() == contents for name, contents in before.items())


@pytest.mark.parametrize("removed", ["plan.jsonl", "data.json", "nothing"])
def test_other_data_is_refused_without_the_plan(
    removed: str, tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / f"arrays_without_{removed.partition('.')[0]}.py"
    module.write_text(ARRAYS)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = make_spec(dataset={"name": f"{module.stem}:arrays"})
    for _ in range(2):
        sweep(spec, tmp_path / "out", jobs=1, quiet=True)
        (tmp_path / "out" / removed).unlink(missing_ok=True)
    monkeypatch.setattr(f"{module.stem}.seed", 1)
    with pytest.raises(BadInput, match="the arrays with which this folder was created"):
        sweep(spec, tmp_path / "out", jobs=1, quiet=True)


@pytest.mark.parametrize(
    "change", [{"width": 64}, {"steps": 10**9}, {"dataset": "mnist"}, {"seed": 5}, {"family": "os:system"}]
)
def test_a_forged_plan_trains_nothing(change: dict[str, object], tmp_path: Path, make_spec: MakeSpec) -> None:
    folder = tmp_path / "out"
    sweep(make_spec(), folder, jobs=1, quiet=True)
    records = [json.loads(line) for line in (folder / "plan.jsonl").read_text().splitlines()]
    records[0]["runs"][0] |= change
    (folder / "plan.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    for path in (folder / "shards").iterdir():
        path.unlink()
    with pytest.raises(BadInput, match=r"plan\.jsonl.*do not match the id"):
        sweep(make_spec(), folder, jobs=1, quiet=True)
    assert Study.open(folder).runs().empty and not failures(folder)
