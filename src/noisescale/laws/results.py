"""The records of a fit, from a single optimum to the whole study.

A cell is a pair (learning rate, batch size), averaged over seeds. A ladder is a sequence of cells at one width. A
series has one ladder for each width. A group has all series with equal hyperparameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from textwrap import TextWrapper
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from noisescale.estimate import Estimate, as_json
from noisescale.laws.ladder import Cell
from noisescale.laws.largest_batch import LargestBatch
from noisescale.laws.optima import Optimum
from noisescale.laws.power_laws import PowerLaw
from noisescale.laws.quantities import QUANTITIES
from noisescale.laws.rate_prices import RatePrice
from noisescale.laws.stability import StabilityEdge
from noisescale.laws.trends import Trend

SCHEMA_VERSION = 1
# Lines and columns of a printed fit.
_SCREEN_LINES, _SCREEN_COLUMNS = 60, 100


@dataclass(frozen=True)
class MetricOptimum:
    """The optimum of one width by one metric, in every unit.

    Args:
        metric: Name of the metric, such as accuracy or loss.
        curve: Position of the optimum on the ladder's axis, which is the logarithm of the series' quantity, with peaks
            and diagnostics.
        normalized_noise_scale: Normalized noise scale ḡ at the optimum; NaN if the optimizer has no noise
            scale, or no layer grows with width.
        noise_scale: Noise scale g at the optimum.
        learning_rate: Learning rate ε at the optimum. It is the rate of the series if the batch size varies.
        batch_size: Batch size B at the optimum, in examples. It is the batch size of the series if the rate varies.
        temperature: Temperature ε/(B(1 - m)) at the optimum.
        height: Metric at the optimum on the test set, from the posterior over the shapes of the curve.
        late: True if the cells that decide the optimum have converged. If False, the optimum includes cells that have
            not converged, and only figures use it.
        stability_limited: True if the rate exceeds half of the stability edge at its batch size; None without an edge.
        labels: Label of `curve`, and "not_late" and "stability_limited" if they apply.
        in_law: True if the noise law uses this width, as a point or as an inequality.
        reason: Reason why the law does not use this width; empty if it does.
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


@pydantic_dataclass(frozen=True)
class WidthFit:
    """The cells and optima of one width of a series.

    Args:
        width: Width of the network.
        steps: Largest number of training steps among the cells.
        train_size: Training set size N, in examples.
        log_ratio: log(ḡ/g) at this width; 0 if the quantity of the series is not ḡ.
        seeds: Seeds that every cell has. If these are fewer than three, the seeds that most cells have.
        cells: Cells, in increasing order of noise.
        optima: Optimum by each metric.
        largest_batch: Largest batch size B* by each metric.
        constants: Value of the constant predictor by each metric; NaN if not recorded. It is left out of the JSON form.
    """

    width: float
    steps: int
    train_size: int
    log_ratio: float
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    optima: dict[str, MetricOptimum]
    largest_batch: dict[str, LargestBatch]
    constants: dict[str, float] = Field(exclude=True, repr=False)


@dataclass(frozen=True)
class Excluded:
    """A width that a law does not use.

    Args:
        width: Width of the network.
        reason: Reason why the law does not use it.
    """

    width: float
    reason: str


@dataclass(frozen=True)
class MetricLaws:
    """The laws of one series by one metric.

    Args:
        metric: Name of the metric, such as accuracy or loss.
        normalized_noise_scale: Optimal ḡ (g if no layer grows) against width, over the widths at which noise helps.
        with_bounds: The same law, fitted with bounds from further widths. At these widths the lowest noise scale on the
            grid is statistically as good as the best.
        temperature: Optimal temperature ε/(B(1 - m)) against width.
        learning_rate: Optimal ε against width, at the fixed batch size of the series; None if the series fixes the
            rate.
        largest_batch: Largest batch size B* against width.
        height: Trend of the metric at the optimum over widths; None with fewer than two widths or three shared seeds.
        excluded: Widths that the noise laws do not use.
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
    """One ladder of cells for each width. The batch size varies at a fixed rate, or the rate at a fixed batch size.

    Args:
        axis: Column that varies, "batch_size" or "learning_rate".
        fixed: Column that is fixed, "learning_rate" or "batch_size".
        fixed_value: Value of the fixed column.
        quantity: Quantity that orders the ladders and in which the law is stated, a key of `QUANTITIES`.
        budget: Budget that the cells of a width share, "steps" or "epochs".
        widths: Fit of each width, in increasing order of width.
        laws: Laws by each metric.
    """

    axis: str
    fixed: str
    fixed_value: float
    quantity: str
    budget: str
    widths: tuple[WidthFit, ...]
    laws: dict[str, MetricLaws]

    def law(self, metric: str) -> PowerLaw | None:
        """Return the law of the optimum in the series' quantity; None if the metric was not measured."""
        laws = self.laws.get(metric)
        if laws is None:
            return None
        return laws.learning_rate if self.quantity == "learning_rate" else laws.normalized_noise_scale

    def value_at(self, optimum: MetricOptimum) -> Estimate:
        """Return the series' quantity at an optimum, such as ḡ; `Optimum.place` is its logarithm."""
        value: Estimate = getattr(optimum, self.quantity)
        return value


@dataclass(frozen=True)
class EdgeAt:
    """The stability edge of one width at one batch size.

    Args:
        width: Width of the network.
        batch_size: Batch size B, in examples.
        steps: Training steps within which a run had to stay stable.
        edge: Largest stable learning rate.
    """

    width: float
    batch_size: float
    steps: int
    edge: StabilityEdge


@dataclass(frozen=True)
class EdgeLaw:
    """The law of the largest stable rate against width, at one batch size.

    Args:
        batch_size: Batch size B, in examples.
        law: Law of the stability edge over width.
    """

    batch_size: float
    law: PowerLaw


@dataclass(frozen=True)
class Group:
    """The optima, edges and laws at one setting of the hyperparameters.

    Args:
        parameterization: Name of the parameterization.
        hyperparameters: Parameterization, optimizer and its hyperparameters, weight decay, initial scale, label noise,
            schedule and the options of the training, by key, where recorded.
        varied: Hyperparameters that differ between the groups of the study.
        edges: Stability edge of each width and batch size.
        edge_laws: Law of the stability edge over width, for each batch size.
        series: Series of the group, one for each value of the fixed axis.
        primary: Index of the series that summary and recommendation use. Series with a conclusive law come first, then
            series with more widths, then series with a narrower interval of the slope.
        rate_price: Price of a larger learning rate at equal noise, in the study's metric; None if the study has no
            cells that measure it.
    """

    parameterization: str
    hyperparameters: dict[str, Any]
    varied: dict[str, Any]
    edges: tuple[EdgeAt, ...]
    edge_laws: tuple[EdgeLaw, ...]
    series: tuple[Series, ...]
    primary: int
    rate_price: RatePrice | None

    @property
    def primary_series(self) -> Series:
        """The series that summary and recommendation use."""
        return self.series[self.primary]

    @property
    def fixed(self) -> bool:
        """Whether the runs have one fixed model without a width. Their width is then 1."""
        return bool(self.hyperparameters.get("fixed"))

    def number(self, name: str) -> float:
        """Return a numeric hyperparameter; NaN if the group lacks it or it is not a number."""
        value = self.hyperparameters.get(name)
        return float(value) if isinstance(value, int | float) else math.nan


@dataclass(frozen=True)
class SummaryRow:
    """The results of one width for a table, by the study's metric and the primary series of its group.

    Args:
        parameterization: Parameterization of the group.
        varied: Hyperparameters that distinguish the group from the others.
        width: Width of the network.
        learning_rate: Learning rate ε at the optimum.
        batch_size: Batch size B at the optimum, in examples.
        normalized_noise_scale: Normalized noise scale ḡ at the optimum.
        noise_scale: Noise scale g at the optimum.
        temperature: Temperature ε/(B(1 - m)) at the optimum.
        height: Metric at the optimum, on the test set.
        largest_stable_rate: Stability edge ε_½ at `stability_batch_size`.
        stability_batch_size: Of the batch sizes with a measured edge, the nearest to the optimum, in examples; NaN
            without a stability ladder.
        stability_label: Label of the edge; "not_measured" without a stability ladder.
        largest_batch: Largest batch size B*, in examples.
        largest_batch_label: Label of B*.
        labels: Labels of the optimum.
        in_law: True if the noise law uses this width.
        reason: Reason why the law does not use this width; empty if it does.
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


@dataclass(frozen=True, repr=False)
class Fit:
    """The optima and laws of a study.

    Args:
        schema_version: Version of the JSON form.
        name: Name of the study.
        metric: Metric that summary and recommendation use.
        select_on: Data set that chose the optima, "test" or "validation".
        replacement: Whether batches were drawn with replacement.
        groups: Results for each setting of the hyperparameters.
        summary: One row for each width.
        warnings: Reasons for caution before using the numbers.
    """

    schema_version: int
    name: str
    metric: str
    select_on: str
    replacement: bool
    groups: tuple[Group, ...]
    summary: tuple[SummaryRow, ...]
    warnings: tuple[str, ...]

    @property
    def fixed(self) -> bool:
        """Whether the study has one fixed model without a width."""
        return bool(self.groups) and all(group.fixed for group in self.groups)

    @property
    def unit(self) -> str:
        """Unit of the metric; "1" if it was measured at no width."""
        rows = (row for group in self.groups for series in group.series for row in series.widths)
        return next((row.optima[self.metric].height.unit for row in rows if self.metric in row.optima), "1")

    def __repr__(self) -> str:
        """Return a screen of text: one line for each width and law, and the warnings.

        Where that is more than a screen, only the lines of the laws remain.
        """
        lines = self._lines(with_widths=True)
        return "\n".join(lines if len(lines) <= _SCREEN_LINES else self._lines(with_widths=False))

    def _lines(self, *, with_widths: bool) -> list[str]:
        lines = [f"{self.name}: optimum by {self.select_on} {self.metric}"]
        for group in self.groups:
            series = group.primary_series
            quantity = QUANTITIES[series.quantity]
            lines.append(f"{group.parameterization}, {series.fixed.replace('_', ' ')} {series.fixed_value:g}")
            for row in series.widths if with_widths else ():
                if (optimum := row.optima.get(self.metric)) is not None:
                    best = f"best {quantity.symbol} {series.value_at(optimum)}, {self.metric} {optimum.height}"
                    labels = ", ".join(optimum.labels).replace("_", " ")
                    lines.append(f"  width {row.width:g}: {best}; {labels}")
            if (law := series.law(self.metric)) is not None:
                lines.append(f"  exponent of width: {law.slope if law.status == 'ok' else law.advice}")
        lines += [f"warning: {warning}" for warning in self.warnings]
        wrapper = TextWrapper(_SCREEN_COLUMNS, subsequent_indent="    ", break_long_words=False)
        return [part for line in lines for part in wrapper.wrap(line)]

    def as_json(self) -> dict[str, object]:
        """Return the JSON form; infinite ends and missing values become None."""
        result = as_json(self)
        assert isinstance(result, dict)
        return result
