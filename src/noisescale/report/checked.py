"""The check of a recommendation, as a table and as a sentence at the top of the page."""

from __future__ import annotations

from dataclasses import replace

from rich.table import Table

from noisescale.estimate import Estimate, mean_of
from noisescale.laws import Check, Difference
from noisescale.report.numbers import LEGEND, NONE, number, percent, with_interval
from noisescale.report.table_data import TableData
from noisescale.training import METRICS


def check_tables(check: Check, *, fixed: bool = False) -> list[Table]:
    """Return the table of a check for the terminal, with its result in a sentence below.

    Args:
        check: The check.
        fixed: Whether the study has one fixed model without a width.
    """
    data = check_table_data(check, fixed=fixed)
    return [replace(data, notes=(*check_sentences(check, fixed=fixed), *data.notes)).as_rich()]


def check_table_data(check: Check, *, fixed: bool = False) -> TableData:
    """Return the table of a check: the recommendation and each default, with the paired differences.

    Args:
        check: The check.
        fixed: Whether the study has one fixed model without a width.
    """
    differences = {difference.name: difference for difference in check.differences}
    rows = [
        (
            setting.name,
            setting.parameterization,
            number(setting.learning_rate),
            f"{setting.batch_size}",
            f"{setting.steps:,}",
            _format(mean_of(setting.values, check.unit), check),
            _advantage(differences[setting.name], check) if setting.name in differences else NONE,
        )
        for setting in check.settings
    ]
    metric = check.metric.replace("_", " ")
    better = "above" if METRICS[check.metric].direction == "max" else "below"
    notes = [
        f"The advantage is the difference in test {metric}, paired by seed; it is positive if the recommendation lies "
        f"{better} the default. A run that failed counts as the constant predictor. All settings see as many examples "
        f"as the recommendation. The best default is {check.best_default.name}.",
        LEGEND,
    ]
    if check.width != check.requested_width:
        notes.insert(0, f"Width {check.requested_width} would take too long, so width {check.width} was trained.")
    place = _place(check, fixed)
    title = f"Check{place}{',' * bool(place)} on {len(check.seeds)} fresh seeds"
    columns = ("setting", "parameterization", "ε", "B", "steps", f"test {metric}", "advantage of the recommendation")
    return TableData(title, columns, tuple(rows), tuple(notes))


def check_sentences(check: Check | None, *, fixed: bool = False) -> list[str]:
    """Return a sentence for the top of the page, with the result of the check; no sentence without a check.

    Args:
        check: The check.
        fixed: Whether the study has one fixed model without a width.
    """
    if check is None:
        return []
    place = f"On {len(check.seeds)} fresh seeds{_place(check, fixed)}"
    metric = check.metric.replace("_", " ")
    if check.contradicts:
        names = " and ".join(difference.name for difference in check.contradicts)
        worst = min(check.contradicts, key=lambda difference: difference.value)
        return [
            f"{place}, the check contradicts the recommendation: {names} gave a better {metric}, with an advantage of "
            f"the recommendation of {_advantage(worst, check)}."
        ]
    best = check.best_default
    verdict = "beats" if best.low > 0 else "is not distinguishable from"
    return [
        f"{place}, the recommendation {verdict} the best default, {best.name}: its advantage in {metric} is "
        f"{_advantage(best, check)}."
    ]


def _place(check: Check, fixed: bool) -> str:
    return "" if fixed else f" at width {check.width}"


def _advantage(difference: Difference, check: Check) -> str:
    estimate = Estimate(difference.value, difference.low, difference.high, check.unit)
    return percent(estimate, " points") if METRICS[check.metric].percent else with_interval(estimate)


def _format(estimate: Estimate, check: Check) -> str:
    return percent(estimate) if METRICS[check.metric].percent else with_interval(estimate)
