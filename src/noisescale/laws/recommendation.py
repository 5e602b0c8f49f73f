"""A learning rate and a batch size for a width, trained or not, from the laws of a study."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from noisescale.errors import BadInput
from noisescale.families import Factory, Normalization
from noisescale.laws.conditions import conditions, number_of
from noisescale.laws.edges import edge_at_new_width
from noisescale.laws.fitting import NO_HELP_REASON, STABILITY_SHARE, fit
from noisescale.laws.interval import Estimate, as_json
from noisescale.laws.largest_batch import EdgeByBatch
from noisescale.laws.noise_units import NOISE, TEMPERATURE
from noisescale.laws.optimum import ADVICE
from noisescale.laws.results import SCHEMA_VERSION, Fit, Group, MetricOptimum, Series
from noisescale.laws.study_shape import StudyLike
from noisescale.noise_scale import noise_per_rate
from noisescale.parameterizations import DEFAULT_INIT_SCALE, WITH_BASE_WIDTH, ParameterGroups, parameterize
from noisescale.store import Study

# A law over widths is not believed further than this factor outside them.
SUPPORTED_FACTOR = 2.0


@dataclass(frozen=True)
class Rung:
    """One batch size of the ladder that realizes the recommended noise scale.

    Args:
        batch_size: B, examples.
        learning_rate: ε with the interval that the noise scale's interval gives it.
        stability_edge: ε_½ at this batch and width; NaN where none was measured.
        steps: steps that keep the study's training time ε·steps, or its epochs where those were held fixed.
        stable: whether ε is at most half of the edge and its upper end at most the edge; None without an edge.
    """

    batch_size: int
    learning_rate: Estimate
    stability_edge: Estimate
    steps: int
    stable: bool | None


@dataclass(frozen=True)
class Recommendation:
    """What to train a width with.

    Args:
        schema_version: of the JSON form.
        width: of the network.
        parameterization: of the group that the recommendation follows.
        init_scale: σ0² of that group; NaN where not recorded.
        momentum: m of that group.
        weight_decay: λ of that group.
        batch_size: B, examples.
        learning_rate: ε at that batch.
        steps: steps that keep the study's training time ε·steps, or its epochs where those were held fixed.
        normalized_noise_scale: ḡ at this width, with its prediction interval.
        noise_scale: g.
        temperature: ε/(B(1 - m)).
        stability_edge: ε_½ at that batch and width.
        ladder: every batch size with its rate at the same noise scale.
        metric: accuracy or loss.
        select_on: the data on which the optima were chosen.
        train_size: N, examples.
        basis: where the noise scale and the edge come from.
        validity: under which conditions the numbers hold.
        warnings: what speaks against them.
        input_shape: shape of one input of the study's data; empty where only a fit was given.
        num_outputs: outputs of the study's models; 0 where only a fit was given.
        base_width: the width at which that parameterization equals standard; None where it has none.
        query_rows: the weights that make an attention's queries, as the study's spec names them for mup.
        nesterov: whether momentum is of Nesterov's form.
    """

    schema_version: int
    width: float
    parameterization: str
    init_scale: float
    momentum: float
    weight_decay: float
    batch_size: int
    learning_rate: Estimate
    steps: int
    normalized_noise_scale: Estimate
    noise_scale: Estimate
    temperature: Estimate
    stability_edge: Estimate
    ladder: tuple[Rung, ...]
    metric: str
    select_on: str
    train_size: int
    basis: tuple[str, ...]
    validity: tuple[str, ...]
    warnings: tuple[str, ...]
    input_shape: tuple[int, ...] = ()
    num_outputs: int = 0
    base_width: int | None = None
    query_rows: tuple[str, ...] = ()
    nesterov: bool = False

    def parameter_groups(self, factory: Factory, *, seed: int = 0) -> ParameterGroups:
        """Build the recommended model and return parameter groups for any `torch.optim.SGD`.

        Args:
            factory: `(width, input_shape, num_classes) -> nn.Module`, as a sweep takes it.
            seed: fixes the initial weights, as a run's seed does in a sweep.

        Returns:
            A list of groups with lr, momentum, weight_decay and nesterov; its attribute `model` is the re-initialized
            model. What `torch.optim.SGD` has no word for (clipping, decoupled decay) stands in `validity`.

        Raises:
            BadInput: the recommendation was made from a fit alone, which does not know the shape of the data, or its
                width is not a whole number.
        """
        if not self.input_shape:
            raise BadInput(
                "parameter_groups", "a recommendation made from a study, which knows its data", "one made from a fit"
            )
        if self.parameterization in WITH_BASE_WIDTH and self.base_width is None:
            raise BadInput(
                "parameter_groups", f"a study that records the base width of {self.parameterization}", "none"
            )
        if self.width != int(self.width):
            raise BadInput("width", "a whole number of units", self.width)
        width = int(self.width)
        # Where the parameterization keeps the module's own start, the seed must reach the factory, as in a sweep.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, reference = (factory(w, self.input_shape, self.num_outputs) for w in (width, 2 * width))
            base_width = self.base_width
            base = None if base_width is None else factory(base_width, self.input_shape, self.num_outputs)
        groups = parameterize(
            model,
            reference,
            self.parameterization,
            self.learning_rate.value,
            base=base,
            query_rows=self.query_rows,
            momentum=self.momentum,
            weight_decay=self.weight_decay if math.isfinite(self.weight_decay) else 0.0,
            init_scale=self.init_scale if math.isfinite(self.init_scale) else DEFAULT_INIT_SCALE,
            seed=seed,
        )
        for group in groups:
            group["nesterov"] = self.nesterov and self.momentum > 0
        return groups

    def as_json(self) -> dict[str, object]:
        """The JSON form; open ends and missing values become None."""
        result = as_json(self)
        assert isinstance(result, dict)
        return result


def recommend(
    study_or_fit: StudyLike | Fit,
    width: float,
    batch_size: int | None = None,
    *,
    parameterization: str | None = None,
) -> Recommendation:
    """Recommend a learning rate and a batch size.

    The law gives ḡ at the width, hence g, hence a rate ε = g(1 - m)/(N/B - 1) for every batch B. The default is the
    largest B of a factor-√2 ladder whose rate is at most half of the stability edge and whose interval's upper end is
    at most the edge.

    Args:
        study_or_fit: a study, or what `fit` returned for it.
        width: any width above 0.
        batch_size: keep this batch size, in examples; default None, the largest stable one.
        parameterization: which group to follow; default the one with the best peak at its largest width.

    Returns:
        The recommendation, with the whole ladder, its basis, validity and warnings.

    Raises:
        BadInput: a width or batch that is not possible, an unknown parameterization, or a study without any optimum.
    """
    if not (math.isfinite(width) and width > 0):
        raise BadInput("width", "a number above 0", width)
    found = study_or_fit if isinstance(study_or_fit, Fit) else fit(study_or_fit)
    group = _choose_group(found, parameterization)
    series = group.series[group.primary]
    warnings = list(found.warnings)
    log_noise, basis, origin = _noise_at(series, found.metric, width, warnings)
    train_size = series.widths[-1].train_size
    if batch_size is not None and not (1 <= batch_size < train_size and batch_size == int(batch_size)):
        raise BadInput("batch_size", f"a whole number from 1 to {train_size - 1}", batch_size)
    momentum = float(group.hyperparameters["momentum"])
    log_ratio = _ratio_at(series, width)
    noise = _exponential(log_noise, -log_ratio, "examples", NOISE[found.replacement])
    edge, edge_basis = edge_at_new_width(group.edges, group.edge_laws, width)
    batches = [int(batch_size)] if batch_size is not None else _batch_ladder(train_size)
    if isinstance(study_or_fit, Study):
        batches = _trainable(batches, study_or_fit, batch_size is not None)
    time = _training_time(series, found.metric, width if origin is None else origin)
    passes = _passes(series) if series.budget == "epochs" else math.nan
    ladder = tuple(
        _rung(batch, noise, edge, time, passes, train_size, momentum, found.replacement) for batch in batches
    )
    chosen = _choose_rung(ladder, series, warnings)
    _warn_of_width(series, found.metric, width, origin, warnings)
    _warn_of_rate(series, ladder, chosen, warnings)
    if group.hyperparameters.get("decay") == "decoupled" and momentum and number_of(group, "weight_decay"):
        warnings.append(
            "weight decay is decoupled in this study, and torch.optim.SGD couples it: give its groups weight_decay 0 "
            "and shrink the weights by 1 − ελ at every step"
        )
    input_shape, num_outputs = study_or_fit.data_shape() if isinstance(study_or_fit, Study) else ((), 0)
    normalized = any(math.isfinite(row.normalized_noise_scale) for row in series.widths[-1].cells)
    nothing = Estimate(math.nan, math.nan, math.nan, "1", "no layer grows with width")
    factor = chosen.learning_rate.value / noise.value / (chosen.batch_size * (1 - momentum))
    return Recommendation(
        schema_version=SCHEMA_VERSION,
        width=width,
        parameterization=group.parameterization,
        init_scale=number_of(group, "init_scale"),
        momentum=momentum,
        weight_decay=number_of(group, "weight_decay"),
        batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
        steps=chosen.steps,
        normalized_noise_scale=log_noise if normalized else nothing,
        noise_scale=noise,
        temperature=_exponential(noise, math.log(factor), "1/examples", TEMPERATURE),
        stability_edge=chosen.stability_edge,
        ladder=ladder,
        metric=found.metric,
        select_on=found.select_on,
        train_size=train_size,
        basis=(basis, edge_basis, *_among(found, group)),
        validity=conditions(series, group, time, train_size, momentum),
        warnings=tuple(dict.fromkeys(warnings)),
        input_shape=input_shape,
        num_outputs=num_outputs,
        base_width=_base_width(group),
        query_rows=tuple((group.hyperparameters.get("query_rows") or "").split()),
        nesterov=bool(group.hyperparameters.get("nesterov")),
    )


def _choose_group(found: Fit, parameterization: str | None) -> Group:
    groups = found.groups
    if parameterization is not None:
        groups = tuple(group for group in groups if group.parameterization == parameterization)
        if not groups:
            known = ", ".join(sorted({group.parameterization for group in found.groups}))
            raise BadInput("parameterization", f"one of {known}", parameterization)
    sign = 1.0 if found.metric == "accuracy" else -1.0

    def peak(group: Group) -> float:
        heights = [
            width.optima[found.metric].height.value
            for width in group.series[group.primary].widths
            if found.metric in width.optima
        ]
        known = [sign * height for height in heights if math.isfinite(height)]
        return known[-1] if known else -math.inf

    return max(groups, key=peak)


def _among(found: Fit, group: Group) -> list[str]:
    """Which of several groups was followed, by what they differ in."""
    if len(found.groups) == 1:
        return []
    kinds = [{"parameterization": own.parameterization, **own.hyperparameters} for own in found.groups]
    own = {"parameterization": group.parameterization, **group.hyperparameters}
    differ = [f"{name} {value}" for name, value in own.items() if any(kind.get(name) != value for kind in kinds)]
    return [f"of {len(found.groups)} groups the one with the best peak at its largest width: {', '.join(differ)}"]


def _noise_at(series: Series, metric: str, width: float, warnings: list[str]) -> tuple[Estimate, str, float | None]:
    """The optimum on the noise axis at a width, where it comes from, and the width it is that of, if of one."""
    measured = {row.width: row.optima[metric] for row in series.widths if metric in row.optima}
    own = measured.get(float(width))
    if own is not None and own.in_law and own.curve.label == "interior":
        return _axis_estimate(own), f"optimum measured at width {width:g}", width
    if own is not None and own.reason == NO_HELP_REASON:
        warnings.append(
            f"at width {width:g} {NO_HELP_REASON}: what is given is a bound from above, and less may do as well"
        )
        return _axis_estimate(own), f"the least noise tried at width {width:g}", width
    if own is not None and own.reason:
        warnings.append(f"width {width:g} was trained and left out of the law: {own.reason}")
    law = series.laws[metric].normalized_noise_scale if metric in series.laws else None
    if law is not None and law.status == "ok":
        widths = ", ".join(f"{known:g}" for known in law.widths)
        return law.at(width), f"law of the {law.quantity} over widths {widths}, with its prediction interval", None
    known = {place: row for place, row in measured.items() if row.curve.found}
    if not known:
        reasons = "; ".join(f"width {place:g}: {row.curve.advice}" for place, row in measured.items())
        raise BadInput("recommend", "an optimum at one width at least", reasons or f"no {metric} at any width")
    # A young optimum or a bound near by tells more than a ripe optimum far away; one that shows where training breaks
    # tells nothing.
    sound = [place for place, row in known.items() if not row.stability_limited]
    nearest = min(sound or known, key=lambda place: abs(math.log(place / width)))
    warnings.append(f"the law over widths is inconclusive: the noise scale is that of width {nearest:g}, unchanged")
    label = known[nearest].curve.label
    if label != "interior":
        warnings.append(f"at width {nearest:g} no optimum is known, only a bound ({ADVICE[label]})")
    labels = ", ".join(known[nearest].labels).replace("_", " ")
    return (
        _axis_estimate(known[nearest]),
        f"the nearest width with an optimum or a bound, {nearest:g} ({labels})",
        nearest,
    )


def _axis_estimate(found: MetricOptimum) -> Estimate:
    normalized = math.isfinite(found.normalized_noise_scale.value)
    return found.normalized_noise_scale if normalized else found.noise_scale


def _ratio_at(series: Series, width: float) -> float:
    """log(ḡ/g) at a width, from its straight line over log width (its slope is 0 or 1 in the known tables)."""
    places = np.log([row.width for row in series.widths])
    ratios = np.array([row.log_ratio for row in series.widths])
    if places.size < 2:
        return float(ratios[0])
    slope, intercept = np.polyfit(places, ratios, 1)
    return float(intercept + slope * math.log(width))


def _training_time(series: Series, metric: str, width: float) -> float:
    """ε·steps of the study's cell nearest to the optimum of the width nearest to this one; NaN without an optimum."""
    known = [row for row in series.widths if metric in row.optima and row.optima[metric].curve.found]
    if not known:
        return math.nan
    row = min(known, key=lambda one: abs(math.log(one.width / width)))
    noise = row.optima[metric].noise_scale.value
    cell = min(row.cells, key=lambda one: abs(math.log(one.noise_scale / noise)))
    return cell.learning_rate * cell.steps


def _passes(series: Series) -> float:
    """The largest number of whole passes over the training set that the study's cells share."""
    row = series.widths[-1]
    return max(cell.steps / (row.train_size // cell.batch_size) for cell in row.cells)


def _trainable(batches: list[int], study: Study, given: bool) -> list[int]:
    """The batch sizes that the study's normalization allows."""
    model = study.spec.get("model") or {}
    sizes = {name: model[name] for name in ("groups", "ghost_size") if model.get(name) is not None}
    normalization = Normalization(model.get("normalization", "none"), **sizes)
    allowed = [size for size in batches if normalization.batch_fault(size) is None]
    if given and not allowed:
        raise BadInput("batch_size", str(normalization.batch_fault(batches[0])), batches[0])
    return allowed or batches


def _batch_ladder(train_size: int) -> list[int]:
    """Whole numbers near the powers of √2, up to half of the training set."""
    powers = range(2 * int(math.log2(max(train_size, 2))) + 1)
    sizes = sorted({round(2 ** (power / 2)) for power in powers})
    return [size for size in sizes if size <= max(train_size // 2, 1)]


def _rung(
    batch: int,
    noise: Estimate,
    edge: EdgeByBatch | None,
    time: float,
    passes: float,
    train_size: int,
    momentum: float,
    replacement: bool,
) -> Rung:
    factor = noise_per_rate(float(batch), train_size, momentum, replacement=replacement)
    rate = _exponential(noise, -math.log(factor), "1", f"ε at B = {batch}")
    limit = edge.at(batch) if edge else Estimate(math.nan, math.nan, math.nan, "learning rate", "not measured")
    stable = None if edge is None else rate.value <= STABILITY_SHARE * limit.value and rate.high <= limit.value
    # Where the study held epochs fixed, its optimum holds at that number of them; elsewhere at its training time.
    steps = passes * (train_size // batch) if math.isfinite(passes) else time / rate.value
    steps = round(steps) if math.isfinite(steps) else 0
    return Rung(batch, rate, limit, max(steps, 1), stable)


def _choose_rung(ladder: tuple[Rung, ...], series: Series, warnings: list[str]) -> Rung:
    """The largest stable batch; where nothing is known to be stable, the most careful choice, with a warning."""
    if len(ladder) == 1:
        if ladder[0].learning_rate.value > ladder[0].stability_edge.value:
            warnings.append("at this batch size the rate lies above the stability edge: training is expected to fail")
        elif ladder[0].stable is False:
            warnings.append("at this batch size the rate, or its interval, is not safely below the stability edge")
        if ladder[0].stable is None:
            warnings.append(
                "no stability edge was measured: whether the rate is stable at this batch size is not known"
            )
        return ladder[0]
    stable = [rung for rung in ladder if rung.stable]
    if stable:
        return stable[-1]
    if ladder[0].stable is None:
        tried = [cell.learning_rate for row in series.widths for cell in row.cells if cell.usable]
        limit = max(tried, default=math.inf)
        within = [rung for rung in ladder if rung.learning_rate.value <= limit * (1 + 1e-9)]
        warnings.append(
            f"no stability edge: the batch is the largest whose rate is at most {limit:g}, trained without failure"
        )
        return (within or list(ladder[:1]))[-1]
    half = [rung for rung in ladder if rung.learning_rate.value <= STABILITY_SHARE * rung.stability_edge.value]
    if half:
        warnings.append("the rate is below half of the stability edge, but its interval reaches beyond the edge")
        return half[-1]
    warnings.append("the noise scale is out of reach below half of the stability edge, even at a batch of one")
    return ladder[0]


def _warn_of_width(series: Series, metric: str, width: float, origin: float | None, warnings: list[str]) -> None:
    laws = series.laws.get(metric)
    widths = laws.normalized_noise_scale.widths if laws is not None and origin is None else (origin or width,)
    low, high = min(widths) / SUPPORTED_FACTOR, max(widths) * SUPPORTED_FACTOR
    helpless = [
        row.width for row in series.widths if metric in row.optima and row.optima[metric].reason == NO_HELP_REASON
    ]
    sound = [row.width for row in series.widths if metric in row.optima and row.optima[metric].in_law]
    if helpless and width < min(sound, default=math.inf):
        warnings.append(
            f"at width {max(helpless):g} {NO_HELP_REASON}, and no more is known below the widths of the law"
        )
        low = min(sound, default=low)
    if not low <= width <= high:
        warnings.append(f"width {width:g} lies outside {low:g} to {high:g}, the range that its basis supports")


def _warn_of_rate(series: Series, ladder: tuple[Rung, ...], chosen: Rung, warnings: list[str]) -> None:
    largest = max(cell.learning_rate for row in series.widths for cell in row.cells)
    rate = chosen.learning_rate.value
    if rate <= largest * (1 + 1e-9):
        return
    text = (
        f"the rate {rate:.4g} lies above {largest:g}, the largest that was trained to the end: that equal noise at "
        "equal ε·steps gives equal accuracy is assumed there"
    )
    # A whole batch size meets the trained rate only nearly.
    within = [rung.batch_size for rung in ladder if rung.learning_rate.value <= largest * 1.05]
    if within:
        text += f"; batch size {within[-1]} needs no such rate, but more steps"
    warnings.append(text)


def _base_width(group: Group) -> int | None:
    value = group.hyperparameters.get("base_width")
    return None if value is None else int(value)


def _exponential(estimate: Estimate, shift: float, unit: str, convention: str) -> Estimate:
    """The estimate times exp(shift); open ends stay open."""
    factor = math.exp(shift)
    return Estimate(estimate.value * factor, estimate.low * factor, estimate.high * factor, unit, convention)
