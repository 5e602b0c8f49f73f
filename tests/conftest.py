"""What every test shares: one thread, fixed seeds, the published data files where present, and the long form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

# Tests run beside each other on few cores; more threads for each would only fight.
torch.set_num_threads(1)

# No deadline: a loaded machine is not a failure. Derandomized, without a store: the same examples every time.
settings.register_profile("noisescale", deadline=None, derandomize=True, database=None)
settings.load_profile("noisescale")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the tests marked `full`, the long form")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    skip = pytest.mark.skip(reason="the long form: give --full, or use make test-full")
    for item in items:
        if item.get_closest_marker("full") is not None:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of the published data files: NOISESCALE_DATA, or shared/data beside the repository."""
    named = os.environ.get("NOISESCALE_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            "the published data files are absent: set NOISESCALE_DATA to the folder that holds mnist/, cifar10/, ..."
        )
    return folder
