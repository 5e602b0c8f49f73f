"""An own place for every test, and the modules beside the tests (found here because test folders are no packages)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pooch
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def fuzz_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder of a session's cases: one core, an empty cache, no data of the machine's own."""
    place, before = tmp_path_factory.mktemp("fuzz"), Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
        patch.setattr(pooch, "os_cache", lambda project: place / "cache")
        patch.setattr(sys, "path", list(sys.path))
        patch.delenv("NOISESCALE_DATA", raising=False)
        os.chdir(place)
        try:
            yield place
        finally:
            os.chdir(before)


@pytest.fixture(autouse=True)
def place(fuzz_place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, entered again for each test: other modules' fixtures change the working folder as well."""
    monkeypatch.chdir(fuzz_place)
    return fuzz_place
