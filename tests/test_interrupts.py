"""The command line as a process: a closed output and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from noisescale.cli import main


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_closed_output_is_not_an_error() -> None:
    buffered = {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "noisescale", "doctor"]
    with subprocess.Popen(command, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def no_process_is_left(group: int) -> bool:
    """Return whether a process group is empty, after waiting for processes that are ending."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_an_interrupt_keeps_everything_finished(
    tmp_path: Path, small_spec: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal sends Ctrl-C to the driver and its workers at once, here during training."""
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(small_spec)
    # There are many packs, so that the sweep still trains on a busy machine when the signal comes.
    grid = (f"grid.width={list(range(2, 30))}", "training.steps=8000")
    sweep = ["sweep", "spec.toml", "--out", "out", "--jobs", "2", "--set", grid[0], "--set", grid[1]]
    command = [sys.executable, "-m", "noisescale", *sweep]
    # A shell starts background jobs with interrupts ignored, and their children inherit this.
    driver = subprocess.Popen(
        command, env=environment(), start_new_session=True, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    shards = tmp_path / "out" / "shards"
    end = time.monotonic() + 60
    while not list(shards.glob("*.parquet")) and driver.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    capsys.readouterr()
    assert main(["status", "out", "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert state["running"] is True
    assert state["missing"] > 0
    assert state["heartbeat_age"] < 60
    os.killpg(driver.pid, signal.SIGINT)
    _, errors = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "noisescale: interrupted; everything finished so far is kept"
    finished = sorted(shards.glob("[!.]*.parquet"))
    assert finished
    # A worker that is killed while it writes may leave its temporary file, which the next driver removes.
    assert {path.suffix for path in set(shards.iterdir()).difference(finished)} <= {".tmp"}
    assert no_process_is_left(driver.pid)
    assert main(["status", "out", "--json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert after["completed"] == 4 * len(finished)
    assert after["running"] is False
