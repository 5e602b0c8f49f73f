"""A study as an Optuna study in an SQLite file, which optuna-dashboard opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisescale.exports.database import sqlite_at
from noisescale.exports.entries import Entry, entries
from noisescale.store import Study
from noisescale.training import METRICS


def write_optuna(study: Study, path: Path) -> None:
    """A trial a run: what varies as parameters, the metric that the spec's fit asks for as value, curves as steps.

    A diverged run is a failed trial. Rates and other positive numbers have a logarithmic distribution.
    """
    import optuna
    from optuna.trial import FrozenTrial, TrialState, create_trial

    metric = str((study.spec.get("fit") or {}).get("metric", "accuracy"))
    found = list(entries(study))
    distributions = _distributions([entry.given for entry in found])

    def trial(entry: Entry) -> FrozenTrial:
        value = entry.found.get(f"test_{metric}")
        return create_trial(
            state=TrialState.COMPLETE if value is not None else TrialState.FAIL,
            value=value,
            params={name: _plain(own) for name, own in entry.given.items()},
            distributions=distributions,
            intermediate_values=dict(entry.curves.get(f"test_{metric}", [])),
            user_attrs={"run_id": entry.run_id, "status": entry.status, "seconds": entry.seconds, **entry.found},
        )

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with sqlite_at(path) as url:
            made = optuna.create_study(
                storage=url,
                study_name=str(study.spec.get("name", "study")),
                direction="maximize" if METRICS[metric].direction == "max" else "minimize",
            )
            made.add_trials(trial(entry) for entry in found)
    finally:
        optuna.logging.set_verbosity(before)


def _distributions(given: list[dict[str, Any]]) -> dict[str, Any]:
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

    def of(values: list[Any]) -> BaseDistribution:
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            return CategoricalDistribution(sorted({str(value) for value in values}))
        low, high = min(values), max(values)
        if all(isinstance(value, int) for value in values):
            return IntDistribution(low, high, log=low > 0)
        return FloatDistribution(low, high, log=low > 0)

    names = given[0] if given else {}
    return {name: of([_plain(own[name]) for own in given]) for name in names}


def _plain(value: Any) -> Any:
    """A parameter as Optuna takes it: a number, or a text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
