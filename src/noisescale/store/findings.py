"""What was found, without what differs from one machine or moment to the next: what two sweeps can be compared by."""

from __future__ import annotations

import pandas as pd

# What a run's row says of where and when it was trained, and not of the run.
CIRCUMSTANCES = ("seconds", "device", "threads", "versions")


def findings(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of `Study.runs()` in the order of their ids, without circumstances."""
    return runs.drop(columns=[*CIRCUMSTANCES]).sort_values("run_id", ignore_index=True)
