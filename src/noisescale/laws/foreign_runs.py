"""Runs in a study's folder that its spec does not describe. They are set aside by name.

A sweep trains no such run: somebody copied it into the folder, or edited the spec.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from noisescale.parameterizations import multipliers_text
from noisescale.training import schedule_from

# Columns with one value, by section and key of the spec.
_FIXED = {
    ("dataset", "name"): "dataset",
    ("dataset", "data_seed"): "data_seed",
    ("dataset", "validation_fraction"): "validation_fraction",
    ("model", "family"): "family",
    ("model", "depth"): "depth",
    ("model", "activation"): "activation",
    ("model", "normalization"): "normalization",
    ("model", "groups"): "groups",
    ("model", "ghost_size"): "ghost_size",
    ("model", "stem"): "stem",
    ("model", "scale_invariant"): "scale_invariant",
    ("training", "nesterov"): "nesterov",
    ("training", "loss"): "loss",
    ("training", "sampling"): "sampling",
    ("training", "precision"): "precision",
    ("training", "batch_statistics"): "batch_statistics",
    ("training", "late_fraction"): "late_fraction",
    ("training", "label_smoothing"): "label_smoothing",
    ("training", "ignore_index"): "ignore_index",
    ("training", "microbatch"): "microbatch",
    ("model", "heads"): "heads",
    ("model", "dropout"): "dropout",
    ("model", "tied"): "tied",
    ("model", "read_out"): "read_out",
    ("model", "outputs"): "outputs",
}
# Columns whose values are listed. Rates, batches and steps are not among them, because a sweep extends their lists.
_LISTED = ("width", "parameterization", "optimizer", "weight_decay", "init_scale", "beta1", "beta2", "epsilon")
# Versions on which results depend, as the column `versions` writes them.
_VERSION = re.compile(r"(noisescale|torch) (\S+?)(?:\+\S+)?(?:,|$)")


def set_foreign_aside(
    runs: pd.DataFrame, spec: Mapping[str, Any], digests: Mapping[float, tuple[str, ...]] | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the runs that the spec describes, and a sentence on each kind of other runs.

    Args:
        runs: Table of runs, one row each.
        spec: Spec as a dictionary of sections, with defaults.
        digests: The digests of the study's data by the fraction of redrawn labels. Without a record, the digest of most
            runs of a size counts.

    Returns:
        The runs, and sentences on runs that are set aside and on mixed versions.
    """
    sentences = []
    for column, values in _allowed(spec).items():
        if column not in runs:
            continue
        # A missing value is allowed, except where the spec asks for gradients of a limited norm.
        is_allowed = runs[column].isin(values) | (runs[column].isna() & (column != "clip_norm" or None in values))
        if column == "schedule" and "purpose" in runs:  # stability ladders may have a constant rate
            is_allowed |= runs["purpose"] == "stability"
        if len(foreign := runs[~is_allowed]):
            others = ", ".join(map(str, foreign[column].unique()[:3]))
            kind = f"{column} {others}, where the spec has {', '.join(map(str, values[:5]))}"
            sentences.append(f"{len(foreign)} runs are set aside, because they are not of this study: {kind}")
            runs = runs.drop(foreign.index)
    on_other_data = _other_data(runs, digests or {})
    if on_other_data.any():
        count = int(on_other_data.sum())
        sentences.append(f"{count} runs are set aside, because they are not of this study: other data")
        runs = runs[~on_other_data]
    return runs, (*sentences, *_mixed(runs))


def _allowed(spec: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values that runs of a spec can have, by column."""
    grid, training = spec.get("grid") or {}, spec.get("training") or {}
    allowed: dict[str, list[Any]] = {}
    for (section, key), column in _FIXED.items():
        if (value := (spec.get(section) or {}).get(key)) is not None:
            allowed[column] = [value]
    allowed |= {column: list(grid[column]) for column in _LISTED if isinstance(grid.get(column), list | tuple)}
    if isinstance(momenta := grid.get("momentum"), list | tuple):
        adaptive = [name for name in grid.get("optimizer") or () if name != "sgd"]
        allowed["momentum"] = [*momenta, *([0.0] if adaptive else [])]
    if (noises := grid.get("label_noise") or (spec.get("dataset") or {}).get("label_noise")) is not None:
        allowed["label_noise"] = list(noises) if isinstance(noises, list | tuple) else [noises]
    if (schedules := grid.get("schedule") or training.get("schedule")) is not None:
        tables = schedules if isinstance(schedules, list | tuple) else [schedules]
        allowed["schedule"] = [schedule_from(table).text for table in tables]
    if "rate_multipliers" in (spec.get("model") or {}):
        allowed["rate_multipliers"] = [multipliers_text(spec["model"]["rate_multipliers"] or {})]
    if "average" in training:
        average = training["average"]
        allowed["average"] = [bool(average)]
        allowed["average_decay"] = [average["ema"] if isinstance(average, Mapping) else None]
    if "clip_norm" in training:
        allowed["clip_norm"] = [training["clip_norm"]]
    if isinstance(training.get("augmentation"), list | tuple):
        allowed["augmentation"] = [" ".join(training["augmentation"])]
    return allowed


def _other_data(runs: pd.DataFrame, digests: Mapping[float, tuple[str, ...]]) -> pd.Series:
    """Return the mask of the runs on other data than those of the study with as much label noise."""
    if "dataset_hash" not in runs or "label_noise" not in runs:
        return pd.Series(False, runs.index)
    kinds = [name for name in ("label_noise", "train_size") if name in runs]
    by_kind = runs.groupby(kinds, dropna=False)["dataset_hash"]
    most = by_kind.transform(lambda digest: digest.value_counts().idxmax() if digest.notna().any() else None)
    known = [
        digest in digests.get(noise, (usual,))
        for noise, digest, usual in zip(runs["label_noise"], runs["dataset_hash"], most, strict=True)
    ]
    return runs["dataset_hash"].notna() & ~pd.Series(known, runs.index, dtype=bool)


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
