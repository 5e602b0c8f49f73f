"""Quantities that a stored sweep measured during training, as arrays over measurements, runs and weight tensors."""

from __future__ import annotations

import numpy as np
import pandas as pd

from noisescale.claims.panel import Floats
from noisescale.store import Study


def norm_measurements(study: Study) -> pd.DataFrame:
    """Return the rows of the curves at which weight norms were measured.

    The column `measurement` numbers the measurements of each run from 0.

    Args:
        study: A stored sweep that measured `weight_norm_squared`.
    """
    curves = study.curves()
    columns = _columns(curves, "weight_norm_squared")
    curves = curves[curves[columns].notna().all(axis=1)].sort_values("step")
    return curves.assign(measurement=curves.groupby("run_id").cumcount())


def by_weight(measurements: pd.DataFrame, runs: pd.DataFrame, quantity: str) -> Floats:
    """Return a quantity of every weight tensor.

    Args:
        measurements: The rows, as `norm_measurements` returns them.
        runs: The table of runs. The values have the order of its rows.
        quantity: Name of the quantity.

    Returns:
        Values by measurement, run and weight tensor, shape [T, R, L].
    """
    return np.stack([by_run(measurements, runs, name) for name in _columns(measurements, quantity)], 2)


def by_run(measurements: pd.DataFrame, runs: pd.DataFrame, column: str) -> Floats:
    """Return a column of the measurements.

    Args:
        measurements: The rows, as `norm_measurements` returns them.
        runs: The table of runs. The values have the order of its rows.
        column: Name of the column.

    Returns:
        Values by measurement and run, shape [T, R].
    """
    table = measurements.pivot(index="measurement", columns="run_id", values=column)
    values: Floats = table[runs.run_id.tolist()].to_numpy(dtype=np.float64)
    return values


def _columns(curves: pd.DataFrame, quantity: str) -> list[str]:
    return [name for name in map(str, curves.columns) if name.startswith(f"{quantity}.")]
