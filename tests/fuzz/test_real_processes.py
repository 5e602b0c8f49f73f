"""Commands as real processes: their exit codes, both outputs and the files that they leave."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import Executes
from running import MARK, SECONDS
from spec_texts import VALID, as_toml

SPEC = as_toml({**VALID, "seeds": 1, "grid": {**VALID["grid"], "learning_rate": [0.5], "width": [2]}})
SWEEP = ["sweep", "real.toml", "--out", "real-out"]
STUDY = ["--out", "exported", "--to", "csv"]

# By name: the files to write, the command, the exit code, and a word of the message.
CASES: dict[str, tuple[dict[str, bytes], list[str], int, str]] = {
    "unknown command": ({}, ["swep"], 2, "swep"),
    "missing spec": ({}, ["sweep", "nothing.toml", "--out", "x"], 2, "nothing.toml"),
    "spec is a folder": ({}, ["sweep", ".", "--out", "x"], 2, "."),
    "no TOML": ({"real.toml": b"\xff\x00["}, SWEEP, 2, "TOML"),
    "deep TOML": ({"real.toml": b"a = " + b"[" * 50_000}, SWEEP, 2, "TOML"),
    "empty spec": ({"real.toml": b""}, SWEEP, 2, "name"),
    "unknown key": ({"real.toml": SPEC.encode() + b"\nlerning_rate = 1\n"}, SWEEP, 2, "lerning_rate"),
    "wrong value": ({"real.toml": SPEC.encode()}, [*SWEEP, "--set", "grid.width=[0]"], 2, "grid.width"),
    "huge grid": ({"real.toml": SPEC.encode()}, [*SWEEP, "--dry-run", "--set", "seeds=100000"], 2, "seeds"),
    "out is a file": ({"real.toml": SPEC.encode(), "f": b""}, ["sweep", "real.toml", "--out", "f"], 2, "f"),
    "function that ends": ({"real.toml": SPEC.encode()}, [*SWEEP, "--set", 'dataset.name="os:getcwd"'], 2, "os:getcwd"),
    "no study": ({}, ["fit", "."], 2, "spec.json"),
    "no JSON": ({"spec.json": b"[" * 50_000}, ["status", "."], 2, "spec.json"),
    "no export": ({"spec.json": b"{}"}, ["export", ".", "--to", "xls", "--out", "x"], 2, "--to"),
    "no claim": ({}, ["verify", "C99.9", "--out", "x"], 2, "C99.9"),
    "hostile shard": (
        {"spec.json": b"{}", "shards/a.parquet": pickle.dumps(Executes())},
        ["fit", "."], 2, "a.parquet",
    ),
    "hostile weights": (
        {"user_model.py": b"from torch import nn\nmodel = nn.Linear(64, 10)", "w.pt": pickle.dumps(Executes())},
        ["measure", "user_model:model", "--data", "digits", "--checkpoint", "w.pt"], 2, "w.pt",
    ),
    "dry run": ({"real.toml": SPEC.encode()}, [*SWEEP, "--dry-run"], 0, ""),
    "run": ({"real.toml": SPEC.encode()}, [*SWEEP, "--jobs", "1"], 0, ""),
    "list": ({}, ["claims", "--json"], 0, ""),
}  # fmt: skip


# Each process imports torch, which takes seconds, so the other cases run only in the long form.
SHORT = ("unknown command", "no TOML", "out is a file", "function that ends", "hostile shard", "hostile weights", "run")


def test_there_are_at_least_twenty_cases() -> None:
    assert len(CASES) >= 20 and set(SHORT) <= set(CASES)


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.full) for name in CASES]
)
def test_a_real_process(name: str, tmp_path: Path) -> None:
    files, command, code, word = CASES[name]
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "noisescale", *command], cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == code, done
    assert "Traceback" not in done.stdout + done.stderr and not (tmp_path / MARK).exists()
    if code == 2:
        assert done.stderr.startswith("noisescale: ") and word in done.stderr and done.stderr.count("\n") <= 2, done
        remaining = [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts]
        assert remaining == before
