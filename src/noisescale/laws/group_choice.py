"""The choice among the groups of a study: optimizers, parameterizations, decays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from noisescale.errors import BadInput, unknown_name
from noisescale.laws.optimum_at_width import best_cell
from noisescale.laws.results import Fit, Group
from noisescale.laws.run_groups import SIZES
from noisescale.laws.rung_ladder import Selection
from noisescale.training import METRICS, OPTIMIZERS, hyperparameter_names

# Properties of the data. Groups that differ in one of these solve different problems.
_PROBLEM = ("label_noise",)
# Share of the span by which a group without a law must be better than one with a law.
_HANDICAP = 0.005


def held_groups(
    groups: Sequence[Group], held: Mapping[str, object], options: Mapping[str, str] = MappingProxyType({})
) -> list[Group]:
    """Return the groups that have the values that are held.

    Args:
        groups: Groups of a study.
        held: Hyperparameters by key, such as `{"optimizer": "sgd"}`.
        options: Options of the command line that held a key, by key. Default: `--set`.

    Returns:
        The groups; at least one.

    Raises:
        BadInput: A key is unknown, no group has these values, or the remaining groups have different data.
    """
    remaining = list(groups)
    keys = {key: None for group in groups for key in _settings(group)}
    for key, value in held.items():
        if key not in keys:
            raise unknown_name("--set", keys, key)
        values = [_settings(group).get(key) for group in remaining]
        matching = [group for group, known in zip(remaining, values, strict=True) if _equal(known, value)]
        if not matching:
            trained = dict.fromkeys(str(value) for value in values if value is not None)
            required = f"one of the trained values ({', '.join(trained) or 'none'})"
            raise BadInput(options.get(key, f"--set {key}"), required, value)
        remaining = matching
    for key in _PROBLEM:
        values = list(dict.fromkeys(group.hyperparameters.get(key) for group in remaining))
        if len(values) > 1:
            known = ", ".join(map(str, values))
            raise BadInput("--set", f"grid.{key}=VALUE with one of {known}, because each is another problem", "none")
    return remaining


def compared_groups(groups: Sequence[Group], held: Mapping[str, object]) -> tuple[list[Group], list[str]]:
    """Return the groups with the largest budget and the largest training set, because more of either is no choice.

    Args:
        groups: Groups of a study.
        held: What the user holds.

    Returns:
        The groups, and a sentence for each size that was chosen.
    """
    remaining, sentences = list(groups), []
    for key in SIZES:
        values = {float(group.hyperparameters[key]) for group in remaining if key in group.varied}
        if key not in held and len(values) > 1:
            remaining = [group for group in remaining if float(group.hyperparameters[key]) == max(values)]
            listed = ", ".join(f"{value:.15g}" for value in sorted(values))
            sentences.append(f"the largest {_SIZE_WORDS[key]} of the study, {max(values):.15g} of {listed}")
    return remaining, sentences


_SIZE_WORDS = {"steps": "number of steps", "epochs": "number of epochs", "train_size": "training set"}


def _settings(group: Group) -> dict[str, Any]:
    """Return the hyperparameters that a group has, by key."""
    settings = {"parameterization": group.parameterization, **group.hyperparameters}
    foreign = {*hyperparameter_names()} - {*OPTIMIZERS[settings.get("optimizer") or "sgd"].hyperparameters}
    return {key: value for key, value in settings.items() if value not in (None, "") and key not in foreign}


def read_settings(option: str, texts: Sequence[str]) -> dict[str, object]:
    """Read settings that are written as grid.optimizer=sgd; the section may be left out.

    Raises:
        BadInput: A text is not KEY=VALUE; the message names the option.
    """
    settings: dict[str, object] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not (separator and key and value):
            raise BadInput(option, "KEY=VALUE, such as grid.optimizer=sgd", text)
        settings[key.rpartition(".")[2]] = value
    return settings


def best_selection(fitted: Fit, selections: Sequence[Selection], *, held: bool) -> tuple[Selection, list[str]]:
    """Return the selection of the best group, with a sentence that names the group if there are several.

    Groups are compared by the metric that their rungs are expected to reach at the width. If a group has no law, they
    are compared by their best trained cell, at the widths that all of them have.

    Args:
        fitted: Fit of the study.
        selections: Selection of each group; at least one.
        held: Whether the user held hyperparameters.

    Returns:
        The selection, and the sentence if the study has several groups.
    """
    sign = METRICS[fitted.metric].sign
    values = [sign * selection.chosen.expected_metric.value for selection in selections]
    by_law = all(math.isfinite(value) for value in values)
    if not by_law:
        # A cell that was trained elsewhere must be clearly better than one of a group whose law reaches this width.
        handicaps = [0.0 if math.isfinite(value) else _HANDICAP * _span(selections) for value in values]
        cells = _best_cells(fitted, selections)
        values = [sign * value - handicap for value, handicap in zip(cells, handicaps, strict=True)]
    best = max(range(len(selections)), key=lambda index: values[index])
    if len(fitted.groups) == 1:
        return selections[best], []
    among = "of those with the given hyperparameters" if held else f"of {len(fitted.groups)} groups"
    criterion = f"expected {fitted.metric} at this width" if by_law else f"{fitted.metric} of a trained cell"
    text = f"the group with the best {criterion}, {among}: {group_words(selections[best].group)}"
    others = [index for index in range(len(selections)) if index != best and math.isfinite(values[index])]
    if others:
        second = max(others, key=lambda index: values[index])
        gap, unit = values[best] - values[second], METRICS[fitted.metric]
        amount = f"{100 * gap:.2g} points" if unit.percent else f"{gap:.2g} {fitted.unit}"
        text += f"; {amount} better than {group_words(selections[second].group)}"
    return selections[best], [text]


def _span(selections: Sequence[Selection]) -> float:
    """Return the largest span of the groups with a law; 0 without one."""
    return max((selection.span for selection in selections if math.isfinite(selection.span)), default=0.0)


def _best_cells(fitted: Fit, selections: Sequence[Selection]) -> list[float]:
    """Return the best cell's metric of each group at the widest width that all groups have, or at its widest."""
    rows = [{row.width: row for row in selection.group.primary_series.widths} for selection in selections]
    shared = set.intersection(*(set(by_width) for by_width in rows))
    result = []
    for selection, by_width in zip(selections, rows, strict=True):
        width = max(shared or by_width)
        cells = [
            cell.metrics[fitted.metric].value
            for series in selection.group.series
            for row in series.widths
            if row.width == width and (cell := best_cell(row, fitted.metric)) is not None
        ]
        sign = METRICS[fitted.metric].sign
        result.append(max(cells, key=lambda value: sign * value, default=-sign * math.inf))
    return result


def group_words(group: Group) -> str:
    """Name a group by those of its hyperparameters that differ between the groups of the study."""
    return ", ".join(f"{key} {value}" for key, value in _settings(group).items() if key in group.varied)


def _equal(known: object, value: object) -> bool:
    if str(known).lower() == str(value).lower():
        return True
    try:
        return math.isclose(float(str(known)), float(str(value)))
    except ValueError:
        return False
