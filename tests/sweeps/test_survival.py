"""What befalls a sweep's folder from outside: damage, a move, a clock that runs backwards, a script without a guard."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from noisescale.cli import main
from noisescale.sweeps import SweepSpec, sweep
from noisescale.sweeps.status import status

MakeSpec = Callable[..., SweepSpec]

# What a run's row says of the machine and the moment, not of the run.
CIRCUMSTANCES = ["seconds", "device", "threads", "versions"]


def findings(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.drop(columns=CIRCUMSTANCES).sort_values("run_id", ignore_index=True)


def test_the_runs_of_a_damaged_shard_run_again(
    tmp_path: Path, make_spec: MakeSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = make_spec(grid__width=[2, 4]), tmp_path / "out"
    known = findings(sweep(spec, out, quiet=True).runs())
    hurt = sorted((out / "shards").glob("*.parquet"))[0]
    data = bytearray(hurt.read_bytes())
    data[len(data) // 2] ^= 4
    hurt.write_bytes(data)
    # Whoever only reads says which file, and changes nothing.
    assert main(["fit", str(out)]) == 2
    assert hurt.name in capsys.readouterr().err and hurt.read_bytes() == data
    again = sweep(spec, out)
    assert f"{hurt.name} is damaged" in capsys.readouterr().err
    pd.testing.assert_frame_equal(findings(again.runs()), known)
    assert [path.name for path in (out / "damaged").iterdir()] == [hurt.name]
    assert main(["status", str(out)]) == 0


def test_a_folder_that_moved_is_the_same_study(tmp_path: Path, make_spec: MakeSpec) -> None:
    spec = make_spec()
    known = sweep(spec, tmp_path / "here", quiet=True).runs()
    shutil.move(tmp_path / "here", tmp_path / "there")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*.parquet")}
    pd.testing.assert_frame_equal(sweep(spec, tmp_path / "there", quiet=True).runs(), known)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*.parquet")}
    shutil.copytree(tmp_path / "there", tmp_path / "copy")
    assert status(tmp_path / "copy").missing == 0


def test_a_clock_that_was_set_back(tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    out, now = tmp_path / "out", time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    sweep(make_spec(), out, quiet=True)
    monkeypatch.setattr(time, "time", lambda: now)
    found = status(out)
    assert found.heartbeat_age == 0.0 and found.missing == 0
    assert len(sweep(make_spec(grid__width=[2, 4]), out, quiet=True).runs()) == 8


def test_a_script_without_a_guard_ends_with_a_word_about_it(tmp_path: Path, make_spec: MakeSpec) -> None:
    values = json.loads(make_spec().model_dump_json(exclude_none=True))
    script = tmp_path / "script.py"
    script.write_text(
        "from noisescale import SweepSpec, sweep\n"
        f"sweep(SweepSpec.from_dict({values!r}), {str(tmp_path / 'out')!r}, jobs=2, quiet=True)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert "if __name__ == '__main__'" in done.stderr
    assert "one driver a folder" not in done.stderr
