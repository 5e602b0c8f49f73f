"""The table of results of `noisescale measure`, for the terminal."""

from __future__ import annotations

import math

from rich.table import Table

from noisescale.estimate import Estimate
from noisescale.measure import ModelReport
from noisescale.report.numbers import NONE, number
from noisescale.report.table_data import TableData

NAMES = {
    "trace_covariance": "tr Σ",
    "gradient_norm_squared": "|G|²",
    "gradient_noise_scale": "gradient noise scale tr Σ/|G|²",
    "lambda_max": "λ_max of H",
    "invariant_sharpness": "λ_max of |w|H|w|",
    "hessian_trace": "tr H",
    "hessian_frobenius_norm": "‖H‖",
    "gauss_newton_lambda_max": "λ_max of Gauss-Newton",
    "largest_stable_rate": "largest stable rate",
    "noise_curvature_cosine": "cosine of C and H",
}


def measured_tables(report: ModelReport) -> list[Table]:
    """Make the table of quantities with errors, units, meanings and costs, for a terminal of 140 columns.

    Args:
        report: Measurements of a model.

    Returns:
        A list with the table.
    """
    rows = tuple(
        (NAMES[row.name], *_value(row.estimate), row.estimate.unit, row.convention, f"{row.cost}, {row.seconds:.1f} s")
        for row in report.quantities
    )
    share = "all" if report.examples == report.population else f"{report.examples:,} of"
    size = f"{report.parameters:,} parameters, {report.loss}, {report.dtype}"
    title = f"{size}, on {share} {report.population:,} training examples"
    notes = [
        "Brackets show 95 % intervals, for eigenvalues the residual. '>' means that the data do not bound this end.",
        "The gradient noise is that of the whole training set. The curvature is that of the loss on these examples.",
    ]
    notes += [f"{NAMES[row.name]}: {row.status}" for row in report.quantities if row.status not in ("ok", "exact")]
    columns = ("", "value ± error", "interval", "unit", "meaning", "cost")
    return [TableData(title, columns, rows, tuple(notes)).as_rich()]


def _value(estimate: Estimate) -> tuple[str, str]:
    if not math.isfinite(estimate.value):
        return NONE, f"[{number(estimate.low)}, >]"
    if estimate.is_exact:
        return number(estimate.value), "exact"
    error = number(estimate.standard_error, 2) if math.isfinite(estimate.standard_error) else NONE
    ends = [number(end, 4) if math.isfinite(end) else sign for end, sign in ((estimate.low, "<"), (estimate.high, ">"))]
    return f"{number(estimate.value, 4)} ± {error}", f"[{', '.join(ends)}]"
