from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pooch
import pytest


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def cache(shared_cache: Path) -> Iterator[None]:
    """Use a temporary cache in place of the user's cache, and generate MNIST-1D only once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooch, "os_cache", lambda project: shared_cache)
        yield


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache, and no other folder."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    monkeypatch.delenv("NOISESCALE_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def published_data(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the published files, after making the loaders search in it."""
    monkeypatch.setenv("NOISESCALE_DATA", str(data_folder))
    return data_folder
