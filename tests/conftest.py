"""Settings and fixtures of all tests: a single thread, fixed seeds, published data files, and the long form."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from noisescale.datasets import cifar10

REPOSITORY = Path(__file__).resolve().parents[1]

SMALL_SPEC = """
name = "small"
seeds = 2
[dataset]
name = "digits"
train_size = 60
test_size = 40
[model]
family = "mlp"
[grid]
width = [2]
batch_size = [10]
learning_rate = [0.5, 1.0]
[training]
steps = 12
evaluations = 4
[fit]
extend_edges = false
[stability]
seeds = 0
"""

# Tests run in parallel on few cores, so more threads per test would only compete.
torch.set_num_threads(1)

# No deadline, because a busy machine is not a failure. Derandomized and without a database, so examples are the same.
settings.register_profile("noisescale", deadline=None, derandomize=True, database=None)
settings.load_profile("noisescale")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the tests marked `full` in place of those marked `short`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        left_out, reason = "short", "a test of the long form contains it"
    else:
        left_out, reason = "full", "the long form: give --full, or use make test-full"
    for item in items:
        if item.get_closest_marker(left_out) is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of the published data files: NOISESCALE_DATA, or shared/data beside the repository."""
    variable = os.environ.get("NOISESCALE_DATA")
    folder = Path(variable) if variable else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            "the published data files are absent: set NOISESCALE_DATA to the folder that holds mnist/, cifar10/, ..."
        )
    return folder


@pytest.fixture(scope="session")
def tables() -> Path:
    """Return the folder of other people's runs: NOISESCALE_TABLES, or shared/tables beside the repository."""
    variable = os.environ.get("NOISESCALE_TABLES")
    folder = Path(variable) if variable else REPOSITORY.parent / "shared" / "tables"
    if not folder.is_dir():
        pytest.skip("the tables of other people's runs are absent: set NOISESCALE_TABLES to their folder")
    return folder


@pytest.fixture(scope="session")
def small_spec() -> str:
    """Return the text of a spec that trains in a second: two rates and two seeds of an MLP on a few digits."""
    return SMALL_SPEC


@pytest.fixture(scope="session")
def processes_below() -> Callable[[int], set[int]]:
    """Return a function that lists a process and all its descendants, according to /proc."""

    def below(process: int) -> set[int]:
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
            except OSError:  # the process has ended
                continue
        processes = {process}
        while children := {child for child, parent in parents.items() if parent in processes} - processes:
            processes |= children
        return processes

    return below


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have two cores, so that two workers train."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)


@pytest.fixture
def stand_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], Any]], Path]:
    """Return a function that writes six batches in place of the published batches of CIFAR-10.

    It takes a function from the number of a batch to its contents, and returns the folder.
    """

    def write(batch: Callable[[int], Any]) -> Path:
        folder = tmp_path / "cifar10" / cifar10.BATCH_FOLDER
        folder.mkdir(parents=True)
        checksums = {}
        for index, name in enumerate(cifar10.BATCH_MD5):
            content = pickle.dumps(batch(index), protocol=4)
            (folder / name).write_bytes(content)
            checksums[name] = hashlib.md5(content).hexdigest()
        monkeypatch.setattr(cifar10, "BATCH_MD5", checksums)
        monkeypatch.setenv("NOISESCALE_DATA", str(tmp_path))
        return folder

    return write
