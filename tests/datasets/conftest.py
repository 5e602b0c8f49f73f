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
    """Keep these tests out of the user's own cache, and generate MNIST-1D once for all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooch, "os_cache", lambda project: shared_cache)
        yield


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without any file, and no other place to look in."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    monkeypatch.delenv("NOISESCALE_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def published_data(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the published files, as the loaders find it."""
    monkeypatch.setenv("NOISESCALE_DATA", str(data_folder))
    return data_folder
