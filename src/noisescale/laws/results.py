"""What a fit returns: frozen records from the single optimum up to the whole study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from noisescale.estimate import Estimate, as_json
from noisescale.laws.cells import Cell
from noisescale.laws.largest_batch import LargestBatch
from noisescale.laws.optimum import Optimum
from noisescale.laws.power_laws import PowerLaw
from noisescale.laws.stability import StabilityEdge
from noisescale.laws.trends import Trend

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class MetricOptimum:
    """The optimum of one width by one metric, in every unit.

    Args:
        metric: accuracy or loss.
        curve: the optimum on the axis log ḡ (log g where no layer grows), with peaks and diagnostics.
        normalized_noise_scale: ḡ at the optimum; NaN where no layer grows.
        noise_scale: g.
        learning_rate: at the batch size of the series (the fixed rate where the batch is the ladder).
        batch_size: at the learning rate of the series (the fixed batch where the rate is the ladder).
        temperature: ε/(B(1 - m)).
        height: metric at the optimum, reported on the test set, cross-fitted over seeds.
        late: whether the cells that decide are late; if not, they were used nevertheless, for the figure.
        stability_limited: whether the rate lies above half of the stability edge at its batch; None without an edge.
        labels: the curve's label and what else holds: not_late, stability_limited.
        in_law: whether the noise law uses this width, as a point or as an inequality.
        reason: why it does not.
    """

    metric: str
    curve: Optimum
    normalized_noise_scale: Estimate
    noise_scale: Estimate
    learning_rate: Estimate
    batch_size: Estimate
    temperature: Estimate
    height: Estimate
    late: bool
    stability_limited: bool | None
    labels: tuple[str, ...]
    in_law: bool
    reason: str


@dataclass(frozen=True)
class WidthFit:
    """One width of a series.

    Args:
        width: of the network.
        steps: the largest number of steps of its cells.
        train_size: N, examples.
        log_ratio: log(ḡ/g).
        seeds: seeds that every cell has.
        cells: in increasing order of noise.
        optima: by metric.
        largest_batch: by metric.
    """

    width: float
    steps: int
    train_size: int
    log_ratio: float
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    optima: dict[str, MetricOptimum]
    largest_batch: dict[str, LargestBatch]


@dataclass(frozen=True)
class Excluded:
    """A width that a law does not use, and why."""

    width: float
    reason: str


@dataclass(frozen=True)
class MetricLaws:
    """The laws of one series by one metric.

    Args:
        metric: accuracy or loss.
        normalized_noise_scale: optimum ḡ (g where no layer grows) against width, over the widths at which noise helps.
        with_bounds: the same with the widths at which the least noise tried is not told from the best, as bounds.
        temperature: optimum ε/(B(1 - m)) against width.
        learning_rate: optimum ε against width, at the fixed batch of the series; None where the series holds the rate.
        largest_batch: B* against width.
        height: trend of the metric at the optimum over widths; None with fewer than two widths or three seeds.
        excluded: widths that the noise laws do not use.
    """

    metric: str
    normalized_noise_scale: PowerLaw
    with_bounds: PowerLaw
    temperature: PowerLaw
    learning_rate: PowerLaw | None
    largest_batch: PowerLaw
    height: Trend | None
    excluded: tuple[Excluded, ...]


@dataclass(frozen=True)
class Series:
    """One ladder over widths: the batch varied at a fixed rate, or the rate at a fixed batch.

    Args:
        axis: batch_size or learning_rate, the one that varies.
        fixed: name of the other one.
        fixed_value: its value.
        quantity: a key of `QUANTITIES`, in which optima and their law are stated.
        budget: steps or epochs, what the cells of a width share.
        widths: in increasing order.
        laws: by metric.
    """

    axis: str
    fixed: str
    fixed_value: float
    quantity: str
    budget: str
    widths: tuple[WidthFit, ...]
    laws: dict[str, MetricLaws]

    def law(self, metric: str) -> PowerLaw | None:
        """Return the law of the optimum in the series' quantity; None where the metric was not measured."""
        laws = self.laws.get(metric)
        if laws is None:
            return None
        return laws.learning_rate if self.quantity == "learning_rate" else laws.normalized_noise_scale

    def place(self, optimum: MetricOptimum) -> Estimate:
        """Return an optimum in the series' quantity."""
        place: Estimate = getattr(optimum, self.quantity)
        return place


@dataclass(frozen=True)
class EdgeAt:
    """The largest stable rate of one width at one batch size, within a number of steps."""

    width: float
    batch_size: float
    steps: int
    edge: StabilityEdge


@dataclass(frozen=True)
class EdgeLaw:
    """The law of the largest stable rate against width, at one batch size."""

    batch_size: float
    law: PowerLaw


@dataclass(frozen=True)
class Group:
    """Everything fitted at one setting of the hyperparameters.

    Args:
        parameterization: name of the table of initializations and rates.
        hyperparameters: parameterization, momentum, weight_decay, init_scale, label_noise, schedule, base_width,
            query_rows, nesterov, decay, clip_norm and augmentation, where recorded.
        varied: those that differ between the groups of the study.
        edges: the largest stable rates.
        edge_laws: their laws, one for each batch size.
        series: the ladders.
        primary: index of the series that summary and recommendation use: a fitted law first, then most widths in it,
            then the narrowest slope.
    """

    parameterization: str
    hyperparameters: dict[str, Any]
    varied: dict[str, Any]
    edges: tuple[EdgeAt, ...]
    edge_laws: tuple[EdgeLaw, ...]
    series: tuple[Series, ...]
    primary: int


@dataclass(frozen=True)
class SummaryRow:
    """One width, ready for a table, by the metric and the primary series of its group.

    Args:
        parameterization: of the group.
        varied: the hyperparameters that tell this group from the others.
        width: of the network.
        learning_rate: at the optimum.
        batch_size: at the optimum.
        normalized_noise_scale: at the optimum.
        noise_scale: at the optimum.
        temperature: at the optimum.
        height: metric at the optimum, on the test set.
        largest_stable_rate: ε_½ at `stability_batch_size`, the measured batch nearest to the optimum's.
        stability_batch_size: NaN without a stability ladder.
        stability_label: of that edge; not_measured without one.
        largest_batch: B*.
        largest_batch_label: of B*.
        labels: of the optimum.
        in_law: whether the noise law uses the width.
        reason: why it does not.
    """

    parameterization: str
    varied: dict[str, Any]
    width: float
    learning_rate: Estimate
    batch_size: Estimate
    normalized_noise_scale: Estimate
    noise_scale: Estimate
    temperature: Estimate
    height: Estimate
    largest_stable_rate: Estimate
    stability_batch_size: float
    stability_label: str
    largest_batch: Estimate
    largest_batch_label: str
    labels: tuple[str, ...]
    in_law: bool
    reason: str


@dataclass(frozen=True)
class Fit:
    """Every optimum and every law of a study.

    Args:
        schema_version: of the JSON form.
        name: of the study.
        metric: the one that summary and recommendation use.
        select_on: the data on which optima were chosen.
        replacement: whether batches were drawn with replacement.
        groups: one for each setting of the hyperparameters.
        summary: one row for each width.
        warnings: what a reader must know before using a number.
    """

    schema_version: int
    name: str
    metric: str
    select_on: str
    replacement: bool
    groups: tuple[Group, ...]
    summary: tuple[SummaryRow, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """The JSON form; unbounded ends and missing values become None."""
        result = as_json(self)
        assert isinstance(result, dict)
        return result
