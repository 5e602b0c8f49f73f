"""The settings of a fit, and the part of a study that a fit needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from noisescale.errors import BadInput, unknown_name
from noisescale.training import ACCURACY, LOSS, LOSSES, METRICS, USER_LOSS_UNIT, is_user_metric, metric_name


class StudyLike(Protocol):
    """The part of a study that a fit needs: its spec with defaults, and its runs as a table."""

    @property
    def spec(self) -> dict[str, Any]:
        """Spec as a dictionary of sections, with defaults."""

    def runs(self) -> pd.DataFrame:
        """Return the table of runs, one row each."""


@dataclass(frozen=True)
class Settings:
    """The settings of a fit, from the spec.

    Args:
        name: Name of the study.
        metric: Metric of the recommended optimum.
        select_on: Data set that chooses the optimum, "test" or "validation".
        budget: Budget that is equal over cells, "steps" or "epochs".
        replacement: Whether batches are drawn with replacement.
        units: Unit of each metric of the study, by name, in the order of the tables.
        budgets: Budgets that the spec compares, in the unit of `budget`; empty for one.
    """

    name: str
    metric: str
    select_on: str
    budget: str
    replacement: bool
    units: dict[str, str]
    budgets: tuple[float, ...] = ()

    @classmethod
    def read(cls, spec: Mapping[str, Any], select_on: str | None = None) -> Settings:
        """Read the settings from a spec.

        Args:
            spec: Spec as a dictionary of sections, with defaults.
            select_on: Data set that chooses the optimum. Default: the spec's `fit.select_on`.

        Returns:
            The settings.

        Raises:
            BadInput: `fit.select_on` or `fit.metric` has an unknown value.
        """
        fit = spec.get("fit") or {}
        training, grid = spec.get("training") or {}, spec.get("grid") or {}
        select = select_on or fit.get("select_on", "test")
        metric = metric_name(str(fit.get("metric", "accuracy")), fit.get("direction"))
        if select not in ("test", "validation"):
            raise BadInput("fit.select_on", '"test" or "validation"', select)
        if metric not in METRICS and not is_user_metric(metric):
            raise unknown_name("fit.metric", METRICS, metric)
        epochs = training.get("epochs") is not None or grid.get("epochs") is not None
        replacement = training.get("sampling") == "with_replacement"
        units = {ACCURACY: METRICS[ACCURACY].unit, LOSS: _loss_unit(str(training.get("loss", "")))}
        units.setdefault(metric, METRICS[metric].unit)
        budget = "epochs" if epochs else "steps"
        listed = grid.get(budget)
        budgets = tuple(sorted(map(float, listed))) if isinstance(listed, list | tuple) and len(listed) > 1 else ()
        return cls(str(spec.get("name", "")), metric, select, budget, replacement, units, budgets)


def _loss_unit(loss: str) -> str:
    if ":" in loss:
        return USER_LOSS_UNIT
    return LOSSES[loss].unit if loss in LOSSES else METRICS[LOSS].unit
