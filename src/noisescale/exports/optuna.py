"""Exports a study as an Optuna study in an SQLite file, which optuna-dashboard can open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisescale.exports.database import sqlite_at
from noisescale.exports.entries import Entry, entries
from noisescale.store import Study
from noisescale.training import METRICS, metric_name


def write_optuna(study: Study, path: Path) -> None:
    """Write one Optuna trial for each run.

    The parameters of a trial are the hyperparameters that vary. The value of a trial is the metric of the spec's fit,
    and its intermediate values are the curve of this metric. A diverged run is a failed trial. Parameters whose values
    are all positive have logarithmic distributions.

    Args:
        study: The study.
        path: The new file.
    """
    import optuna
    from optuna.trial import FrozenTrial, TrialState, create_trial

    fit = study.spec.get("fit") or {}
    metric = metric_name(str(fit.get("metric", "accuracy")), fit.get("direction"))
    runs = list(entries(study))
    distributions = _distributions([entry.hyperparameters for entry in runs])

    def trial(entry: Entry) -> FrozenTrial:
        settings = {name: _number_or_text(setting) for name, setting in entry.hyperparameters.items()}
        value = entry.results.get(f"test_{metric}")
        return create_trial(
            state=TrialState.COMPLETE if value is not None else TrialState.FAIL,
            value=value,
            params=settings,
            distributions={name: distributions[name] for name in settings},
            intermediate_values=dict(entry.curves.get(f"test_{metric}", [])),
            user_attrs={"run_id": entry.run_id, "status": entry.status, "seconds": entry.seconds, **entry.results},
        )

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with sqlite_at(path) as url:
            exported = optuna.create_study(
                storage=url,
                study_name=str(study.spec.get("name", "study")),
                direction="maximize" if METRICS[metric].direction == "max" else "minimize",
            )
            exported.add_trials(trial(entry) for entry in runs)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _distributions(trials: list[dict[str, Any]]) -> dict[str, Any]:
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

    def distribution(values: list[Any]) -> BaseDistribution:
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            return CategoricalDistribution(sorted({str(value) for value in values}))
        low, high = min(values), max(values)
        if all(isinstance(value, int) for value in values):
            return IntDistribution(low, high, log=low > 0)
        return FloatDistribution(low, high, log=low > 0)

    names = dict.fromkeys(name for trial in trials for name in trial)
    return {name: distribution([_number_or_text(trial[name]) for trial in trials if name in trial]) for name in names}


def _number_or_text(value: Any) -> Any:
    """Convert a hyperparameter to a type that Optuna accepts."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
