"""The best trained setting of each width, over all groups of a study: rates, batches, decays, optimizers.

More steps or more data are no choice, so each budget and each training size has its rows.
"""

from __future__ import annotations

from noisescale.estimate import Estimate
from noisescale.laws import SIZES, Cell, Fit, Group, best_cell
from noisescale.report.numbers import number, percent, with_interval
from noisescale.report.table_data import TableData
from noisescale.training import METRICS

_NAMES = {"steps": "steps", "epochs": "epochs", "train_size": "N"}


def best_settings(fit: Fit) -> TableData:
    """Return the table of the best trained setting for each width, budget and training size.

    Args:
        fit: Fit of a study with several groups.
    """
    metric = METRICS[fit.metric]
    sizes = [key for key in SIZES if any(key in group.varied for group in fit.groups)]
    best: dict[tuple[float, ...], tuple[Group, Cell, Estimate]] = {}
    for group in fit.groups:
        for row in (row for series in group.series for row in series.widths):
            if (cell := best_cell(row, fit.metric)) is None:
                continue
            value = cell.metrics[fit.metric]
            key = (row.width, *(float(group.hyperparameters[size]) for size in sizes))
            if key not in best or metric.sign * value.value > metric.sign * best[key][2].value:
                best[key] = group, cell, value
    rest = [name for name in dict.fromkeys(name for group in fit.groups for name in group.varied) if name not in sizes]
    height = f"{fit.select_on} {fit.metric.replace('_', ' ')}" + (" (%)" if metric.percent else "")
    columns = ("width", *(_NAMES[size] for size in sizes), *(name.replace("_", " ") for name in rest), "ε", "B", height)
    rows = []
    for key, (group, cell, value) in sorted(best.items()):
        settings = [_text(group.hyperparameters.get(name, group.parameterization)) for name in rest]
        reached = percent(value, "") if metric.percent else with_interval(value)
        rate, batch = number(cell.learning_rate), f"{cell.batch_size:g}"
        rows.append((f"{key[0]:g}", *(f"{size:,.15g}" for size in key[1:]), *settings, rate, batch, reached))
    return TableData("Best trained setting over all groups", columns, tuple(rows))


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
