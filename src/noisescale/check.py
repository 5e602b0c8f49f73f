"""The check of a recommendation: train it and default settings on fresh seeds, and compare them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import partial

from noisescale.errors import BadInput
from noisescale.laws import Check, Recommendation, Settings, compare_settings, recommend
from noisescale.parameterizations import DEFAULT_INIT_SCALE
from noisescale.store import Study, write_atomically
from noisescale.sweeps import SettingRuns
from noisescale.training import DEFAULT_BATCH, TrainingSetting, default_settings

SEEDS, BUDGET_SECONDS = 5, 600.0


def check_recommendation(
    study: Study,
    recommendation: Recommendation,
    batch_size: int | None = None,
    *,
    held: Mapping[str, object] | None = None,
    seeds: int = SEEDS,
    budget: float = BUDGET_SECONDS,
    log: Callable[[str], None] = lambda line: None,
) -> Check:
    """Train the recommendation and default settings on fresh seeds, and compare them seed by seed.

    The defaults are `default_settings`: plain `torch.optim` optimizers on the module's own initialization. All
    settings see as many examples as the recommendation. Finished runs are in `DIR/check` and are not repeated.

    Args:
        study: The study.
        recommendation: The recommendation of this study.
        batch_size: Batch size that was given to `recommend`, for a narrower width.
        held: Hyperparameters that were given to `recommend`, for a narrower width.
        seeds: Number of fresh seeds.
        budget: Largest estimated time, in seconds. If the width costs more, the widest trained width within the budget
            takes its place, with the recommendation for that width.
        log: Called with the estimated cost, and with the reason for a narrower width.

    Returns:
        The check, which is also stored as `DIR/check/check.json`.

    Raises:
        BadInput: No trained width fits the budget, or a setting cannot be trained.
    """
    runs, width = SettingRuns(study, seeds), int(recommendation.width)
    recommend_again = partial(
        recommend,
        study,
        batch_size=batch_size,
        prefer=recommendation.prefer,
        tolerance=recommendation.tolerance,
        held=held,
    )
    trained_width, settings, seconds = _affordable(runs, recommendation, recommend_again, budget, log)
    place = "" if recommendation.fixed else f", width {trained_width}"
    log(f"check: {len(settings)} settings, {seeds} fresh seeds{place}: about {seconds:.1f} s")
    values = runs.train(settings, trained_width)
    metric = runs.grid.metric
    check = compare_settings(
        settings,
        values,
        width=trained_width,
        requested_width=width,
        seeds=runs.seed_numbers(),
        metric=metric,
        unit=Settings.read(study.spec).units[metric],
    )
    text = json.dumps(check.as_json(), indent=1, allow_nan=False)
    write_atomically(runs.folder / "check.json", lambda file: file.write(text.encode()))
    return check


def _affordable(
    runs: SettingRuns,
    recommendation: Recommendation,
    recommend_again: Callable[[int], Recommendation],
    budget: float,
    log: Callable[[str], None],
) -> tuple[int, list[TrainingSetting], float]:
    """Return the width to train, its settings and their estimated time in seconds."""
    width = int(recommendation.width)
    settings = _settings(runs, recommendation, width)
    estimates = {width: runs.seconds(settings, width, budget)}
    if estimates[width] <= budget:
        return width, settings, estimates[width]
    for narrower in sorted((trained for trained in runs.widths if trained < width), reverse=True):
        # The settings of the requested width give the cost nearly enough to skip a width without its recommendation.
        estimates[narrower] = runs.seconds(settings, narrower, budget)
        if estimates[narrower] <= budget:
            narrower_settings = _settings(runs, recommend_again(narrower), narrower)
            estimates[narrower] = runs.seconds(narrower_settings, narrower, budget)
        if estimates[narrower] <= budget:
            log(f"check: width {width} would take about {estimates[width]:.1f} s, above the {budget:g} s allowed")
            return narrower, narrower_settings, estimates[narrower]
    least = min(estimates, key=lambda candidate: estimates[candidate])
    place = "" if recommendation.fixed else f" at width {least}"
    required = f"at least {estimates[least]:.3g} s, the estimated time{place}"
    raise BadInput("--check-budget", required, f"{budget:g}")


def _settings(runs: SettingRuns, recommendation: Recommendation, width: int) -> list[TrainingSetting]:
    recommended = _recommended(recommendation)
    batch = runs.nearest_batch(DEFAULT_BATCH)
    return [recommended, *default_settings(batch, runs.examples(recommended, width))]


def _recommended(recommendation: Recommendation) -> TrainingSetting:
    hyperparameters = dict(recommendation.hyperparameters or {})
    if recommendation.optimizer_name == "sgd":
        hyperparameters = {"momentum": recommendation.momentum}
    return TrainingSetting(
        name="recommendation",
        learning_rate=recommendation.learning_rate.value,
        batch_size=recommendation.batch_size,
        steps=recommendation.steps,
        optimizer=recommendation.optimizer_name,
        hyperparameters=hyperparameters,
        parameterization=recommendation.parameterization,
        init_scale=recommendation.init_scale if math.isfinite(recommendation.init_scale) else DEFAULT_INIT_SCALE,
        weight_decay=recommendation.weight_decay if math.isfinite(recommendation.weight_decay) else 0.0,
        decay=recommendation.decay,
        no_decay=recommendation.no_decay,
        nesterov=recommendation.nesterov,
    )
