"""Runs in a study's folder that its spec does not describe. They are set aside by name.

A sweep trains no such run: somebody copied it into the folder, or edited the spec.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

# Columns with one value, by section and key of the spec.
_FIXED = {
    ("dataset", "name"): "dataset",
    ("dataset", "data_seed"): "data_seed",
    ("dataset", "validation_fraction"): "validation_fraction",
    ("model", "family"): "family",
    ("model", "depth"): "depth",
    ("model", "activation"): "activation",
    ("model", "normalization"): "normalization",
    ("training", "loss"): "loss",
    ("training", "sampling"): "sampling",
    ("training", "precision"): "precision",
    ("training", "batch_statistics"): "batch_statistics",
    ("training", "late_fraction"): "late_fraction",
}
# Columns whose values are listed. Rates, batches and steps are not among them, because a sweep extends their lists.
_LISTED = ("width", "parameterization", "optimizer", "weight_decay", "init_scale")
# Versions on which results depend, as the column `versions` writes them.
_VERSION = re.compile(r"(noisescale|torch) (\S+?)(?:\+\S+)?(?:,|$)")


def set_foreign_aside(runs: pd.DataFrame, spec: Mapping[str, Any]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the runs that the spec describes, and a sentence on each kind of other runs.

    Args:
        runs: Table of runs, one row each.
        spec: Spec as a dictionary of sections, with defaults.

    Returns:
        The runs, and sentences on runs that are set aside and on mixed versions.
    """
    allowed: dict[str, list[Any]] = {}
    for (section, key), column in _FIXED.items():
        if (value := (spec.get(section) or {}).get(key)) is not None:
            allowed[column] = [value]
    grid = spec.get("grid") or {}
    allowed |= {column: list(grid[column]) for column in _LISTED if isinstance(grid.get(column), list | tuple)}
    sentences = []
    for column, values in allowed.items():
        if column in runs and len(foreign := runs[~runs[column].isin(values) & runs[column].notna()]):
            others = ", ".join(map(str, foreign[column].unique()[:3]))
            kind = f"{column} {others}, where the spec has {', '.join(map(str, values[:5]))}"
            sentences.append(f"{len(foreign)} runs are set aside, because they are not of this study: {kind}")
            runs = runs.drop(foreign.index)
    on_other_data = _other_data(runs)
    if on_other_data.any():
        count = int(on_other_data.sum())
        sentences.append(f"{count} runs are set aside, because they are not of this study: other data")
        runs = runs[~on_other_data]
    return runs, (*sentences, *_mixed(runs))


def _other_data(runs: pd.DataFrame) -> pd.Series:
    """Return the mask of the runs whose data differ from those of most runs with as much label noise."""
    if "dataset_hash" not in runs or "label_noise" not in runs:
        return pd.Series(False, runs.index)
    digests = runs.groupby("label_noise", dropna=False)["dataset_hash"]
    most = digests.transform(lambda digest: digest.value_counts().idxmax() if digest.notna().any() else None)
    return runs["dataset_hash"].notna() & (runs["dataset_hash"] != most)


def _mixed(runs: pd.DataFrame) -> list[str]:
    sentences = []
    if "versions" in runs:
        used: dict[str, set[str]] = {}
        for text in runs["versions"].dropna().unique():
            for name, version in _VERSION.findall(str(text)):
                used.setdefault(name, set()).add(version)
        several = [f"{name} {' and '.join(sorted(numbers))}" for name, numbers in used.items() if len(numbers) > 1]
        if several:
            sentences.append(f"the runs are of several versions: {', '.join(several)}")
    codes = runs["code"].dropna() if "code" in runs else pd.Series(dtype=str)
    if codes.eq("").any() and codes.ne("").any():
        unknown = f"{int(codes.eq('').sum())} runs of version 0.1 do not know the code that trained them"
        sentences.append(f"{unknown}, so they are taken as runs of the same code")
    return sentences
