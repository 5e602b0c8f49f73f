"""The check of a recommendation: it and default settings, trained on fresh seeds, compared seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from noisescale.estimate import as_json
from noisescale.laws.interval import mean_over_seeds
from noisescale.store import read_record
from noisescale.training import METRICS, TrainingSetting

CHECK = "check/check.json"


@dataclass(frozen=True)
class CheckedSetting:
    """A trained setting.

    Args:
        name: Name of the setting; the first is "recommendation".
        parameterization: Parameterization of the networks.
        optimizer: Name of the optimizer.
        learning_rate: Learning rate ε.
        batch_size: Batch size B, in examples.
        steps: Number of steps.
        values: Metric of each seed. A run that diverged or collapsed has the metric of the constant predictor.
        mean: Mean over the seeds.
    """

    name: str
    parameterization: str
    optimizer: str
    learning_rate: float
    batch_size: int
    steps: int
    values: tuple[float, ...]
    mean: float


@dataclass(frozen=True)
class Difference:
    """The advantage of the recommendation over one default, paired by seed, with its 95 % t interval.

    Args:
        name: Name of the default.
        value: Mean difference; above 0 if the recommendation is better.
        low: Lower end of the interval; −∞ if there is no spread to judge it by.
        high: Upper end of the interval.
    """

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Check:
    """The result of `noisescale recommend --check`.

    Args:
        width: Width of the trained networks.
        requested_width: Width of the recommendation that the user asked for. A narrower one is trained if the time
            does not suffice.
        seeds: Seeds of the runs, none of which the study uses.
        metric: Metric of the values, on the test set, averaged over the end of training.
        unit: Unit of the metric and of the differences.
        settings: The recommendation at the trained width, then the defaults.
        differences: The recommendation against each default.
        best_default: The recommendation against the default with the best mean. The best is chosen on the same runs,
            which favors the default.
    """

    width: int
    requested_width: int
    seeds: tuple[int, ...]
    metric: str
    unit: str
    settings: tuple[CheckedSetting, ...]
    differences: tuple[Difference, ...]
    best_default: Difference

    @property
    def contradicts(self) -> tuple[Difference, ...]:
        """Defaults that were better than the recommendation: the whole interval lies below 0."""
        return tuple(difference for difference in self.differences if difference.high < 0)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form; infinite ends become None."""
        values: dict[str, Any] = as_json(self)
        return values


def compare_settings(
    settings: Sequence[TrainingSetting],
    values: Sequence[NDArray[np.float64]],
    *,
    width: int,
    requested_width: int,
    seeds: Sequence[int],
    metric: str,
    unit: str,
) -> Check:
    """Compare the first setting with each of the others, seed by seed.

    Args:
        settings: The recommendation, then the defaults.
        values: Metric of each setting by seed, shape [seeds] each.
        width: Width of the trained networks.
        requested_width: Width that the user asked for.
        seeds: Seeds of the runs.
        metric: Name of the metric.
        unit: Unit of the metric.

    Returns:
        The check.
    """
    sign = METRICS[metric].sign
    checked = tuple(
        CheckedSetting(
            name=setting.name,
            parameterization=setting.parameterization,
            optimizer=setting.optimizer,
            learning_rate=setting.learning_rate,
            batch_size=setting.batch_size,
            steps=setting.steps,
            values=tuple(map(float, row)),
            mean=float(row.mean()),
        )
        for setting, row in zip(settings, values, strict=True)
    )
    differences = tuple(
        _difference(setting.name, sign * (values[0] - row), unit)
        for setting, row in zip(settings[1:], values[1:], strict=True)
    )
    best = max(range(1, len(checked)), key=lambda index: sign * checked[index].mean)
    return Check(
        width=width,
        requested_width=requested_width,
        seeds=tuple(seeds),
        metric=metric,
        unit=unit,
        settings=checked,
        differences=differences,
        best_default=differences[best - 1],
    )


def _difference(name: str, values: NDArray[np.float64], unit: str) -> Difference:
    estimate = mean_over_seeds(values, unit, "paired difference")
    return Difference(name, estimate.value, estimate.low, estimate.high)


def read_check(folder: Path) -> Check | None:
    """Read the stored check of a study; None if there is none.

    Args:
        folder: The folder of the sweep.

    Raises:
        BadInput: The file is damaged.
    """
    required = "a check as `noisescale recommend --check` wrote it; the same command writes it again"
    return read_record(folder / CHECK, required, _check)


def _check(values: Any) -> Check:
    for difference in (*values["differences"], values["best_default"]):
        for end, open_end in (("low", -math.inf), ("high", math.inf)):
            difference[end] = open_end if difference[end] is None else difference[end]
    return TypeAdapter(Check).validate_python(values)
