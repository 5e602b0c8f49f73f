"""Odd input of each kind gets one sentence and exit code 2, or is taken; a full disk gets exit code 1."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from noisescale.cli import main

ARRAYS = """
import numpy as np

def plain():
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((80, 6)).astype("f4"), np.arange(80) % 3
    return x[:60], y[:60], x[60:], y[60:]

def matrices():
    return tuple(np.matrix(array) for array in plain())

def matrix_of_inputs():
    x, y, x_test, y_test = plain()
    return np.matrix(x), y, np.matrix(x_test), y_test

def records():
    x, y, x_test, y_test = plain()
    return np.rec.array([tuple(row) for row in x]), y, x_test, y_test

def memory_map():
    x, y, x_test, y_test = plain()
    np.save("x.npy", x)
    return np.load("x.npy", mmap_mode="r"), y, x_test, y_test
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_spec: str) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("spec.toml").write_text(small_spec)
    return tmp_path


@pytest.fixture
def error(capsys: pytest.CaptureFixture[str]) -> Callable[[int], str]:
    """Return a function that checks an exit code, and returns the one line of the error."""

    def check(code: int, expected: int = 2) -> str:
        text = capsys.readouterr().err.rstrip("\n")
        assert code == expected, text
        assert text.splitlines()[-1].startswith("noisescale: ") and "Traceback" not in text
        assert all(line.isprintable() and len(line) < 1000 for line in text.splitlines())
        return text

    return check


def dry_run(*options: str) -> int:
    return main(["sweep", "spec.toml", "--out", "out", "--dry-run", *options])


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize(
    ("function", "is_taken"),
    [("matrices", False), ("matrix_of_inputs", True), ("records", False), ("memory_map", True)],
)
def test_subclasses_of_arrays_are_taken_or_refused_by_name(
    function: str, is_taken: bool, small_spec: str, error: Callable[..., str]
) -> None:
    module = f"odd_{function}"
    Path(f"{module}.py").write_text(ARRAYS)
    lines = [line for line in small_spec.splitlines() if not line.startswith(("train_size", "test_size"))]
    Path("spec.toml").write_text("\n".join(lines).replace('"digits"', f'"{module}:{function}"'))
    code = dry_run()
    if is_taken:
        assert code == 0
    else:
        assert f"{module}:{function} " in (text := error(code)) and "_train" in text


@pytest.mark.parametrize(
    "option",
    ["name=\udcff", "\udcff=1", "name='\udcff\udcfe'", "grid.width=\x00", "=", "", "a" * 10_000, "name=\x1b[2J",
     "grid.width=[" + "[" * 3000, "name=\"\\ud800\"", "\x1b[2J=1"],
)  # fmt: skip
def test_odd_bytes_of_an_override_are_refused(option: str, error: Callable[..., str]) -> None:
    error(dry_run("--set", option))


@pytest.mark.parametrize(
    "seeds", [str(10**30), f"[{10**30}]", str(2**64), f"[0, {2**32}]", "1e400", "[-1]", "9" * 5000]
)
def test_huge_seeds_of_a_spec_are_refused_by_name(seeds: str, error: Callable[..., str]) -> None:
    assert "seeds" in error(dry_run("--set", f"seeds={seeds}"))


@pytest.mark.parametrize("seed", [2**64, 10**30, -1])
def test_a_huge_seed_of_a_measurement_is_refused(seed: int, error: Callable[..., str]) -> None:
    Path("odd_model.py").write_text("from torch import nn\nmodel = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n")
    error(main(["measure", "odd_model:model", "--data", "digits", "--seed", str(seed), "--examples", "16"]))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("to", ["csv", "parquet"])
@pytest.mark.parametrize("size", [0, 100, 3000])
def test_an_export_beyond_the_largest_file_leaves_nothing(size: int, to: str, error: Callable[..., str]) -> None:
    assert main(["sweep", "spec.toml", "--out", "out", "--jobs", "1"]) == 0
    with largest_file(size):
        code = main(["export", "out", "--to", to, "--out", "exported"])
    assert "everything finished so far is kept" in error(code, 1)
    assert sorted(path.name for path in Path().iterdir() if path.suffix != ".pyc") == ["out", "spec.toml"]


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_report_beyond_the_largest_file_is_said(size: int, error: Callable[..., str]) -> None:
    assert main(["sweep", "spec.toml", "--out", "out", "--jobs", "1"]) == 0
    with largest_file(size):
        code = main(["report", "out"])
    error(code, 1)


@pytest.mark.parametrize("line", ["{}", "[]", "null", '{"pack_id": 1, "seconds": 1, "runs": [{}]}', "\x00", "[" * 5000])
def test_a_forged_line_of_a_plan_is_refused(line: str, error: Callable[..., str]) -> None:
    assert main(["sweep", "spec.toml", "--out", "out", "--jobs", "1"]) == 0
    with Path("out/plan.jsonl").open("a") as file:
        file.write(f"{line}\n")
    for command in (["status", "out"], ["sweep", "spec.toml", "--out", "out", "--jobs", "1"]):
        assert "plan.jsonl" in error(main(command))
    assert json.loads(Path("out/data.json").read_text())
