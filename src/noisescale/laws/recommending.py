"""Recommendation of a learning rate and a batch size for any width, from the laws of a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, no_estimate
from noisescale.families import FIXED_WIDTH
from noisescale.laws.fitting import fit
from noisescale.laws.fixed_texts import without_width
from noisescale.laws.group_choice import best_selection, compared_groups, group_words, held_groups
from noisescale.laws.metric_laws import NO_BENEFIT_REASON
from noisescale.laws.noise_rungs import NoiseRungs
from noisescale.laws.preferences import PREFERENCES, TOLERANCE
from noisescale.laws.quantities import NO_NOISE_SCALE
from noisescale.laws.rate_rungs import RateRungs
from noisescale.laws.recommendation import Recommendation, Rung
from noisescale.laws.results import SCHEMA_VERSION, Fit, Group, Series
from noisescale.laws.run_groups import SIZES
from noisescale.laws.rung_ladder import Request, Selection
from noisescale.laws.rungs import exceeds, scaled
from noisescale.laws.settings import StudyLike
from noisescale.laws.summary import fit_warnings
from noisescale.laws.validity import conditions, inputs_in_words
from noisescale.noise_laws import TEMPERATURE
from noisescale.parameterizations import multipliers_of_text
from noisescale.store import Study
from noisescale.training import OPTIMIZERS

# A law over widths is trusted up to this factor outside their range.
SUPPORTED_FACTOR = 2.0
# Share by which a rate may exceed the largest of the grid without a warning.
_ROUNDING = 1.05


def recommend(
    study_or_fit: StudyLike | Fit,
    width: float | None = None,
    batch_size: int | None = None,
    *,
    parameterization: str | None = None,
    prefer: str = "metric",
    tolerance: float = TOLERANCE,
    held: Mapping[str, object] | None = None,
    steps: int | None = None,
    examples: int | None = None,
    train_size: int | None = None,
    study: Study | None = None,
) -> Recommendation:
    """Recommend a learning rate, a batch size and steps for a width.

    The law gives the normalized noise scale ḡ at the width, and the curves of the trained widths say what a deviation
    costs. The decision is the ḡ of least expected regret. The noise scale g follows from ḡ, and a learning rate
    ε = g(1 - m)/(N/B - 1) follows for every batch size B. Candidates for B are rounded powers of √2 near the trained
    ones whose rate is at most 0.3 of the stability edge. For an optimizer without a noise scale, the law gives ε at
    each batch size of the grid.

    Args:
        study_or_fit: Study, or its fit.
        width: Any width above 0. None for a study of one fixed model, which has no width.
        batch_size: Batch size to keep, in examples. Default: `prefer` chooses.
        parameterization: Parameterization of the group to follow. Default: any.
        prefer: "metric" for the best expected metric; "steps" for the largest batch, "examples" for the fewest examples
            or "time" for the least measured time among the rungs that are as good as the best.
        tolerance: Expected loss at which a rung is still as good as the best, as a share of the metric's span. The 95 %
            bound of the loss may be twice as large.
        held: Hyperparameters of the group to follow, by key, such as `{"optimizer": "sgd"}`. Default: the group with
            the best expected metric.
        steps: Training budget in steps, one that the study compares. Default: its largest budget.
        examples: Training budget in examples: the budget of the study at which the recommendation sees the nearest
            number of examples, within a factor of 1.5.
        train_size: Number of training examples, one that the study compares. Default: its largest.
        study: The study of a fit. With it, the recommendation knows the data and the model.

    Returns:
        The recommendation, with the ladder of batch sizes, its basis, validity and warnings.

    Raises:
        BadInput: The width, batch size, preference or tolerance is impossible, no group has the values that are held,
            or the study has no optimum.
    """
    if width is not None and not (math.isfinite(width) and width > 0):
        raise BadInput("width", "a number above 0", width)
    if batch_size is not None and batch_size != int(batch_size):
        raise BadInput("batch_size", "a whole number", batch_size)
    if prefer not in PREFERENCES:
        raise BadInput("prefer", ", ".join(PREFERENCES), prefer)
    if not 0 < tolerance < 1:
        raise BadInput("tolerance", "a share of the span between 0 and 1", tolerance)
    fitted = study_or_fit if isinstance(study_or_fit, Fit) else fit(study_or_fit)
    study = study_or_fit if isinstance(study_or_fit, Study) else study
    request = Request(_checked_width(fitted, width), None if batch_size is None else int(batch_size), prefer, tolerance)
    hyperparameters = dict(held or {}) | ({} if parameterization is None else {"parameterization": parameterization})
    asked = {"steps": steps, "train_size": train_size}
    sizes_held = {key: value for key, value in asked.items() if value is not None}
    hyperparameters |= sizes_held
    _check_sizes(fitted, {**asked, "examples": examples})
    groups = held_groups(fitted.groups, hyperparameters, {key: _option(key) for key in sizes_held})
    compared = hyperparameters if examples is None else {**hyperparameters, "steps": None, "epochs": None}
    groups, sizes = compared_groups(groups, compared)
    selections, skipped = _selections(fitted, groups, request, study)
    if examples is not None:
        selections = _near_examples(selections, examples)
    selection, group_basis = best_selection(fitted, selections, held=bool(hyperparameters))
    recommendation = _recommendation(fitted, selection, [*group_basis, *sizes, *skipped], request, study)
    if examples is not None:
        steps = max(1, round(examples / recommendation.batch_size))
    return recommendation if steps is None else _with_steps(recommendation, steps, selection.chosen.steps)


def _with_steps(recommendation: Recommendation, steps: int, at_equal_time: int) -> Recommendation:
    """Return the recommendation with the number of steps that was asked for."""
    ratio = steps / at_equal_time
    if max(ratio, 1 / ratio) <= _ROUNDING:
        return replace(recommendation, steps=steps)
    warning = (
        f"{steps:,} steps as asked for: the study's cells had the training time (ε·steps, or examples) at this rate "
        f"of {at_equal_time:,} steps, so that the expected metric is for another time by a factor of {ratio:.2g}"
    )
    return replace(recommendation, steps=steps, warnings=(*recommendation.warnings, warning))


# Largest factor between the number of examples that is asked for and that of a budget of the study.
_NEAR = 1.5


def _check_sizes(fitted: Fit, asked: Mapping[str, int | None]) -> None:
    """Refuse a budget or a training size if the study compares none."""
    compared = {key for group in fitted.groups for key in SIZES if key in group.varied}
    for name, value in asked.items():
        needed = {"train_size"} if name == "train_size" else {"steps"} if name == "steps" else {"steps", "epochs"}
        if value is not None and not needed & compared:
            axes = " or ".join(f"grid.{key}" for key in sorted(needed))
            required = f"left out, because the study compares no such sizes ({axes} lists them)"
            raise BadInput(_option(name), required, value)


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _near_examples(selections: Sequence[Selection], examples: int) -> list[Selection]:
    """Return the selections whose recommendation sees about a number of examples."""
    seen = [selection.chosen.steps * selection.chosen.batch_size for selection in selections]
    near = min(seen, key=lambda count: abs(math.log(count / examples)))
    if not 1 / _NEAR <= near / examples <= _NEAR:
        counts = ", ".join(f"{count:,}" for count in sorted(set(map(int, seen))))
        required = f"within a factor of {_NEAR:g} of what the study's budgets see: {counts}"
        raise BadInput("--examples", required, examples)
    return [selection for selection, count in zip(selections, seen, strict=True) if count == near]


def _checked_width(fitted: Fit, width: float | None) -> float:
    if fitted.fixed:
        if width not in (None, FIXED_WIDTH):
            raise BadInput("width", "none, because the study has one fixed model", width)
        return float(FIXED_WIDTH)
    if width is None:
        raise BadInput("width", "the width to train, because the study's model has a width", "none")
    return width


def _selections(
    fitted: Fit, groups: Sequence[Group], request: Request, study: Study | None
) -> tuple[list[Selection], list[str]]:
    """Return the selections of the groups, and a sentence that names the groups that cannot serve the request."""
    selections, errors = [], {}
    for group in groups:
        rungs = RateRungs if group.primary_series.quantity == "learning_rate" else NoiseRungs
        try:
            selections.append(rungs(fitted, group, request, study).select())
        except BadInput as error:
            errors[group_words(group)] = error
    reasons = "; ".join(f"{words} ({error})" for words, error in errors.items())
    if not selections:
        first = next(iter(errors.values()))
        raise (
            first if len(errors) == 1 else BadInput(first.name, f"a value that one of the groups can serve: {reasons}")
        )
    return selections, [f"left out: {reasons}"] if reasons else []


def _recommendation(
    fitted: Fit, selection: Selection, group_basis: list[str], request: Request, study: Study | None
) -> Recommendation:
    group, chosen, series, noise = selection.group, selection.chosen, selection.series, selection.noise
    momentum = float(group.hyperparameters["momentum"])
    train_size = series.widths[-1].train_size
    by_rate, normalized = series.quantity == "learning_rate", series.quantity == "normalized_noise_scale"
    reason = NO_NOISE_SCALE if by_rate else "no layer grows with width"
    input_shape, num_outputs = study.data_shape() if study is not None else ((), 0)
    standardize = study.spec.get("dataset", {}).get("standardize") if study is not None else None
    inputs = inputs_in_words(input_shape, standardize)
    warnings = [*fit_warnings((group,), fitted.metric, fitted.select_on), *selection.warnings]
    _warn_of_width(series, fitted.metric, request.width, selection.optimum.measured_at, warnings)
    _warn_of_rate(selection, warnings)
    texts: Callable[[Iterable[str]], tuple[str, ...]] = without_width if group.fixed else tuple
    return Recommendation(
        schema_version=SCHEMA_VERSION,
        width=request.width,
        parameterization=group.parameterization,
        init_scale=group.number("init_scale"),
        momentum=momentum,
        weight_decay=group.number("weight_decay"),
        batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
        steps=chosen.steps,
        normalized_noise_scale=selection.optimum.value if normalized else no_estimate("1", reason),
        noise_scale=noise,
        temperature=no_estimate("1", NO_NOISE_SCALE) if by_rate else _temperature(chosen, noise, momentum),
        stability_edge=chosen.stability_edge,
        expected_metric=chosen.expected_metric,
        expected_regret=chosen.expected_regret,
        prefer=request.prefer,
        tolerance=request.tolerance,
        span=selection.span,
        ladder=selection.ladder,
        metric=fitted.metric,
        select_on=fitted.select_on,
        train_size=train_size,
        basis=texts((selection.optimum.basis, selection.edge_basis, *group_basis)),
        validity=conditions(series, group, selection.time, train_size, momentum, inputs),
        warnings=texts(dict.fromkeys(warnings)),
        input_shape=input_shape,
        num_outputs=num_outputs,
        **_building_fields(group),
    )


def _building_fields(group: Group) -> dict[str, Any]:
    """Return the fields of a recommendation that are needed to build the model and its optimizer."""
    options = group.hyperparameters
    optimizer = OPTIMIZERS[options.get("optimizer") or "sgd"]
    base_width = options.get("base_width")
    return {
        "base_width": None if base_width is None else int(base_width),
        "query_rows": tuple((options.get("query_rows") or "").split()),
        "rate_multipliers": multipliers_of_text(options.get("rate_multipliers") or "") or None,
        "fixed": bool(options.get("fixed")),
        "schedule_text": options.get("schedule") or "constant",
        "nesterov": bool(options.get("nesterov")),
        "optimizer_name": optimizer.name,
        "hyperparameters": {key: float(options[key]) for key in optimizer.hyperparameters},
        "decay": options.get("decay") or optimizer.decays[0],
        "no_decay": tuple((options.get("no_decay") or "").split()),
    }


def _temperature(rung: Rung, noise: Estimate, momentum: float) -> Estimate:
    factor = rung.learning_rate.value / noise.value / (rung.batch_size * (1 - momentum))
    return scaled(noise, math.log(factor), TEMPERATURE.unit, TEMPERATURE.formula(False))


def _warn_of_width(series: Series, metric: str, width: float, measured_at: float | None, warnings: list[str]) -> None:
    if measured_at == width:
        return
    law = series.law(metric)
    widths = law.widths if law is not None and measured_at is None else (measured_at or width,)
    low, high = min(widths) / SUPPORTED_FACTOR, max(widths) * SUPPORTED_FACTOR
    optima = {row.width: row.optima[metric] for row in series.widths if metric in row.optima}
    no_benefit = [trained_width for trained_width, optimum in optima.items() if optimum.reason == NO_BENEFIT_REASON]
    in_law = [trained_width for trained_width, optimum in optima.items() if optimum.in_law]
    if no_benefit and width < min(in_law, default=math.inf):
        warnings.append(f"at width {max(no_benefit):g} {NO_BENEFIT_REASON}; the law does not extend below its widths")
        low = min(in_law, default=low)
    if not low <= width <= high:
        warnings.append(f"width {width:g} lies outside {low:g} to {high:g}, the range that the data support")


def _warn_of_rate(selection: Selection, warnings: list[str]) -> None:
    """Warn of a rate above the trained ones, unless the study measured what a larger rate costs."""
    series, ladder, chosen = selection.series, selection.ladder, selection.chosen
    largest = max(cell.learning_rate for row in series.widths for cell in row.cells)
    rate, price = chosen.learning_rate.value, selection.group.rate_price
    # Batch sizes are whole numbers, so the rate of a rung may exceed the largest trained rate slightly.
    if rate <= largest * _ROUNDING:
        return
    if price is not None and not exceeds(rate, price.largest_share * chosen.stability_edge.value):
        return
    text = (
        f"the rate {rate:.4g} lies above {largest:g}, the largest rate of the grid: its price was not measured; it "
        "relies on the assumption that equal noise at equal ε·steps gives equal accuracy"
    )
    within = [rung.batch_size for rung in ladder if rung.learning_rate.value <= largest * _ROUNDING]
    if within:
        text += f"; batch size {within[-1]} stays within the grid but needs more steps"
    warnings.append(text)
