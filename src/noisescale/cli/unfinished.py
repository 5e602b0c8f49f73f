"""The warning that precedes numbers of an unfinished sweep."""

import sys
from pathlib import Path


def warn_if_unfinished(folder: Path) -> None:
    """Print a warning that the numbers of an unfinished sweep may change."""
    from noisescale.sweeps import is_driven, missing_runs

    missing, running = missing_runs(folder), is_driven(folder)
    if missing or running:
        state = "is still running" if running else "is unfinished"
        count = f", {missing} planned runs are missing" if missing else ""
        print(f"noisescale: the sweep {state}{count}: what follows may change", file=sys.stderr)
