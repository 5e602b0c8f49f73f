"""Recommendation of a learning rate and a batch size for any width, from the laws of a study."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, no_estimate
from noisescale.laws.edge_by_batch import EdgeByBatch
from noisescale.laws.edges import edge_at_width
from noisescale.laws.fitting import NO_BENEFIT_REASON, fit
from noisescale.laws.optimum_at_width import OptimumAtWidth, optimum_at_width
from noisescale.laws.recommendation import Recommendation, Rung
from noisescale.laws.results import SCHEMA_VERSION, Fit, Group, Series
from noisescale.laws.rungs import (
    candidate_batches,
    choose_rung,
    epochs_of,
    log_ratio_at,
    rung_of_noise,
    rung_of_rate,
    scaled,
    trainable,
    training_time,
)
from noisescale.laws.settings import StudyLike
from noisescale.laws.validity import conditions
from noisescale.noise_laws import NOISE_SCALE, TEMPERATURE
from noisescale.store import Study
from noisescale.training import METRICS, OPTIMIZERS

# A law over widths is trusted up to this factor outside their range.
SUPPORTED_FACTOR = 2.0


def recommend(
    study_or_fit: StudyLike | Fit,
    width: float,
    batch_size: int | None = None,
    *,
    parameterization: str | None = None,
) -> Recommendation:
    """Recommend a learning rate and a batch size for a width.

    The law gives the normalized noise scale ḡ at the width. The noise scale g follows from ḡ, and a learning rate
    ε = g(1 - m)/(N/B - 1) follows for every batch size B. Candidates for B are rounded powers of √2. By default the
    largest B is chosen whose rate is at most half of the stability edge, while the upper end of the rate's interval is
    at most the edge. For an optimizer without a noise scale, the law gives ε at each batch size of the grid.

    Args:
        study_or_fit: Study, or its fit.
        width: Any width above 0.
        batch_size: Batch size to keep, in examples. Default: the largest stable batch size.
        parameterization: Parameterization of the group to follow. Default: the group with the best peak at its largest
            width.

    Returns:
        The recommendation, with the ladder of batch sizes, its basis, validity and warnings.

    Raises:
        BadInput: The width or batch size is impossible, the parameterization is unknown, or the study has no optimum.
    """
    if not (math.isfinite(width) and width > 0):
        raise BadInput("width", "a number above 0", width)
    fitted = study_or_fit if isinstance(study_or_fit, Fit) else fit(study_or_fit)
    study = study_or_fit if isinstance(study_or_fit, Study) else None
    group = _choose_group(fitted, parameterization)
    edge, edge_basis = edge_at_width(group.edges, group.edge_laws, width)
    by_rate = group.primary_series.quantity == "learning_rate"
    select = _select_by_rate if by_rate else _select_by_noise
    selection = select(fitted, group, width, batch_size, edge, study)
    chosen, series, noise = selection.chosen, selection.series, selection.noise
    momentum = float(group.hyperparameters["momentum"])
    train_size = series.widths[-1].train_size
    normalized = series.quantity == "normalized_noise_scale"
    reason = "the optimizer has no noise scale" if by_rate else "no layer grows with width"
    input_shape, num_outputs = study.data_shape() if study is not None else ((), 0)
    return Recommendation(
        schema_version=SCHEMA_VERSION,
        width=width,
        parameterization=group.parameterization,
        init_scale=group.number("init_scale"),
        momentum=momentum,
        weight_decay=group.number("weight_decay"),
        batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
        steps=chosen.steps,
        normalized_noise_scale=selection.optimum.value if normalized else no_estimate("1", reason),
        noise_scale=noise,
        temperature=no_estimate("1", "the optimizer has no temperature")
        if by_rate
        else _temperature(chosen, noise, momentum),
        stability_edge=chosen.stability_edge,
        expected_regret=_expected_regret(selection.optimum, fitted.metric),
        ladder=selection.ladder,
        metric=fitted.metric,
        select_on=fitted.select_on,
        train_size=train_size,
        basis=(selection.optimum.basis, edge_basis, *_group_basis(fitted, group, parameterization)),
        validity=conditions(series, group, selection.time, train_size, momentum),
        warnings=tuple(dict.fromkeys(selection.warnings)),
        input_shape=input_shape,
        num_outputs=num_outputs,
        **_building_fields(group),
    )


def _expected_regret(optimum: OptimumAtWidth, metric: str) -> Estimate:
    unit, convention = METRICS[metric].unit, f"{metric} below that at the best noise scale of this width"
    if optimum.decision is None:
        return no_estimate(unit, convention)
    return Estimate(optimum.decision.regret, 0.0, optimum.decision.regret_high, unit, convention)


@dataclass(frozen=True)
class _Selection:
    """The rungs of a recommendation, with the series and optimum behind them."""

    ladder: tuple[Rung, ...]
    chosen: Rung
    series: Series
    optimum: OptimumAtWidth
    noise: Estimate
    time: float
    warnings: list[str]


def _select_by_noise(
    fitted: Fit, group: Group, width: float, batch_size: int | None, edge: EdgeByBatch | None, study: Study | None
) -> _Selection:
    """Give every batch size the learning rate with the optimal noise scale."""
    series = group.primary_series
    optimum = optimum_at_width(series, fitted.metric, width)
    warnings = [*fitted.warnings, *optimum.warnings]
    train_size = series.widths[-1].train_size
    if batch_size is not None and not (1 <= batch_size < train_size and batch_size == int(batch_size)):
        raise BadInput("batch_size", f"a whole number from 1 to {train_size - 1}", batch_size)
    formula, cell = NOISE_SCALE.formula(fitted.replacement), optimum.cell
    noise = scaled(optimum.value, -log_ratio_at(series, width), NOISE_SCALE.unit, formula)
    batches = [int(batch_size)] if batch_size is not None else candidate_batches(train_size)
    if cell is not None:
        noise = Estimate(cell.noise_scale, math.nan, math.nan, NOISE_SCALE.unit, formula)
        optimum = replace(optimum, value=scaled(noise, log_ratio_at(series, width), "1", optimum.value.convention))
        batches = sorted({*batches, round(cell.batch_size)}) if batch_size is None else batches
    if study is not None:
        batches = trainable(batches, study, batch_size is not None)
    if cell is not None:
        time = cell.learning_rate * cell.steps
    else:
        time = training_time(series, fitted.metric, width if optimum.measured_at is None else optimum.measured_at)
    epochs = epochs_of(series) if series.budget == "epochs" else math.nan
    momentum = float(group.hyperparameters["momentum"])
    ladder = tuple(
        rung_of_noise(batch, noise, edge, time, epochs, train_size, momentum, fitted.replacement) for batch in batches
    )
    if cell is not None and batch_size is None:
        trained_batch = round(cell.batch_size)
        trained_rungs = tuple(rung for rung in ladder if rung.batch_size == trained_batch)
        chosen = choose_rung(trained_rungs, series, warnings)
    else:
        chosen = choose_rung(ladder, series, warnings)
    _warn_of_width(series, fitted.metric, width, optimum.measured_at, warnings)
    _warn_of_rate(series, ladder, chosen, warnings)
    return _Selection(ladder, chosen, series, optimum, noise, time, warnings)


def _select_by_rate(
    fitted: Fit, group: Group, width: float, batch_size: int | None, edge: EdgeByBatch | None, study: Study | None
) -> _Selection:
    """Give every trained batch size its best rate; follow the primary series unless the user names a batch size."""
    sizes = [round(series.fixed_value) for series in group.series]
    optimizer = group.hyperparameters.get("optimizer")
    if batch_size is not None and batch_size not in sizes:
        required = (
            f"a trained batch size ({', '.join(map(str, sizes))}): no law relates the rate of {optimizer} to the batch"
        )
        raise BadInput("batch_size", required, batch_size)
    series = group.series[group.primary if batch_size is None else sizes.index(batch_size)]
    optimum = optimum_at_width(series, fitted.metric, width)
    warnings = [*fitted.warnings, *optimum.warnings]
    rungs: list[Rung] = []
    for candidate in group.series if batch_size is None else [series]:
        if any(row.optima[fitted.metric].curve.has_value for row in candidate.widths if fitted.metric in row.optima):
            rungs.append(rung_of_rate(candidate, optimum_at_width(candidate, fitted.metric, width).value, edge))
    chosen = next(rung for rung in rungs if rung.batch_size == round(series.fixed_value))
    choose_rung((chosen,), series, warnings)
    time = training_time(series, fitted.metric, width if optimum.measured_at is None else optimum.measured_at)
    _warn_of_width(series, fitted.metric, width, optimum.measured_at, warnings)
    return _Selection(
        tuple(rungs), chosen, series, optimum, no_estimate("1", "the optimizer has no noise scale"), time, warnings
    )


def _building_fields(group: Group) -> dict[str, Any]:
    """Return the fields of a recommendation that are needed to build the model and its optimizer."""
    options = group.hyperparameters
    optimizer = OPTIMIZERS[options.get("optimizer") or "sgd"]
    base_width = options.get("base_width")
    return {
        "base_width": None if base_width is None else int(base_width),
        "query_rows": tuple((options.get("query_rows") or "").split()),
        "nesterov": bool(options.get("nesterov")),
        "optimizer_name": optimizer.name,
        "hyperparameters": {key: float(options[key]) for key in optimizer.hyperparameters},
        "decay": options.get("decay") or optimizer.decays[0],
        "no_decay": tuple((options.get("no_decay") or "").split()),
    }


def _temperature(rung: Rung, noise: Estimate, momentum: float) -> Estimate:
    factor = rung.learning_rate.value / noise.value / (rung.batch_size * (1 - momentum))
    return scaled(noise, math.log(factor), TEMPERATURE.unit, TEMPERATURE.formula(False))


def _choose_group(fitted: Fit, parameterization: str | None) -> Group:
    groups = fitted.groups
    if parameterization is not None:
        groups = tuple(group for group in groups if group.parameterization == parameterization)
        if not groups:
            known = ", ".join(sorted({group.parameterization for group in fitted.groups}))
            raise BadInput("parameterization", f"a parameterization of the study ({known})", parameterization)
    sign = METRICS[fitted.metric].sign

    def peak(group: Group) -> float:
        heights = [
            width.optima[fitted.metric].height.value
            for width in group.primary_series.widths
            if fitted.metric in width.optima
        ]
        finite = [sign * height for height in heights if math.isfinite(height)]
        return finite[-1] if finite else -math.inf

    return max(groups, key=peak)


def _group_basis(fitted: Fit, group: Group, parameterization: str | None) -> list[str]:
    """Name the chosen group among several, by the hyperparameters that differ."""
    if len(fitted.groups) == 1:
        return []
    settings = [
        {"parameterization": candidate.parameterization, **candidate.hyperparameters} for candidate in fitted.groups
    ]
    chosen = {"parameterization": group.parameterization, **group.hyperparameters}
    differ = [f"{name} {value}" for name, value in chosen.items() if any(s.get(name) != value for s in settings)]
    among = f"{len(fitted.groups)} groups" if parameterization is None else f"the groups of {parameterization}"
    return [f"the group with the best peak at its largest width, of {among}: {', '.join(differ)}"]


def _warn_of_width(series: Series, metric: str, width: float, measured_at: float | None, warnings: list[str]) -> None:
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


def _warn_of_rate(series: Series, ladder: tuple[Rung, ...], chosen: Rung, warnings: list[str]) -> None:
    largest = max(cell.learning_rate for row in series.widths for cell in row.cells)
    rate = chosen.learning_rate.value
    if rate <= largest * (1 + 1e-9):
        return
    text = (
        f"the rate {rate:.4g} lies above {largest:g}, the largest rate of the grid: its price was not measured; it "
        "relies on the assumption that equal noise at equal ε·steps gives equal accuracy"
    )
    # Batch sizes are whole numbers, so the rate of a rung may exceed the largest trained rate slightly.
    within = [rung.batch_size for rung in ladder if rung.learning_rate.value <= largest * 1.05]
    if within:
        text += f"; batch size {within[-1]} stays within the grid but needs more steps"
    warnings.append(text)
