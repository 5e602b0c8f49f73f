"""A working folder for every test, and an intact study.

Test folders are not packages, so the helper modules join the import path here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pooch
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from studies import IntactStudy, build_study

from noisescale.sweeps import measured_times


@pytest.fixture(scope="session")
def fuzz_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the working folder of all cases of a session, with a single core, an empty cache and no local data."""
    folder, before = tmp_path_factory.mktemp("fuzz"), Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
        patch.setattr(pooch, "os_cache", lambda project: folder / "cache")
        patch.setattr(sys, "path", list(sys.path))
        patch.delenv("NOISESCALE_DATA", raising=False)
        # A dry run of each spec would train for seconds.
        patch.setattr(measured_times, "MEASURED_SECONDS", 0.0)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


@pytest.fixture(autouse=True)
def folder(fuzz_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter the working folder for each test, because fixtures of other modules change it."""
    monkeypatch.chdir(fuzz_folder)
    return fuzz_folder


@pytest.fixture(scope="session")
def intact(fuzz_folder: Path, small_spec: str) -> IntactStudy:
    return build_study(fuzz_folder, small_spec)
