"""What the rungs of a recommendation have in common, whether they share a noise scale or have a rate each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from noisescale.estimate import Estimate, no_estimate
from noisescale.laws.edges import cautious_edge, edge_at_width, measured_edge_at_width
from noisescale.laws.expected_metrics import Prospect, unknown_metric
from noisescale.laws.ladder import Cell
from noisescale.laws.optimum_at_width import OptimumAtWidth
from noisescale.laws.preferences import Candidate, choose
from noisescale.laws.recommendation import Rung
from noisescale.laws.results import Fit, Group, Series
from noisescale.laws.rungs import PRICE_FREE_SHARE, Limits, training_time
from noisescale.laws.step_times import StepTimes
from noisescale.store import Study


@dataclass(frozen=True)
class Request:
    """What is asked of a recommendation.

    Args:
        width: Width of the network.
        batch_size: Batch size to keep, in examples; None for any.
        prefer: A name in `PREFERENCES`.
        tolerance: Loss that the preference allows, as a share of the span.
    """

    width: float
    batch_size: int | None
    prefer: str
    tolerance: float


@dataclass(frozen=True)
class Selection:
    """The rungs of one group, with the series and the optimum behind them.

    Args:
        group: The group.
        ladder: Rungs, in increasing order of batch size.
        chosen: The chosen rung.
        series: Series that the chosen rung follows.
        optimum: Optimum of that series at the width.
        noise: Noise scale of the chosen rung; NaN if the optimizer has none.
        time: Training time ε·steps of the cells that the rungs rest on.
        edge_basis: Source of the stability edge.
        warnings: Reasons for caution.
    """

    group: Group
    ladder: tuple[Rung, ...]
    chosen: Rung
    series: Series
    optimum: OptimumAtWidth
    noise: Estimate
    time: float
    edge_basis: str
    warnings: tuple[str, ...]

    @property
    def span(self) -> float:
        """Span of the metric; NaN if no law is known."""
        return math.nan if self.optimum.outlook is None else self.optimum.outlook.span


class RungLadder:
    """What the rungs of a group have in common."""

    def __init__(self, fitted: Fit, group: Group, request: Request, study: Study | None) -> None:
        self.fitted, self.group, self.request, self.study = fitted, group, request, study
        self.metric, self.unit, self.width = fitted.metric, fitted.unit, request.width
        edge, self.edge_basis = edge_at_width(group.edges, group.edge_laws, request.width)
        self.edge = cautious_edge(edge, group.edges, request.width, group.parameterization)
        if self.edge is not edge:
            self.edge_basis += ", lowered to a fall as 1/width beyond twice the widest"
        self.limits = Limits.of(group.series, self.edge, group.rate_price)
        self.times = StepTimes(group.series)
        self.prospects: dict[int, Prospect] = {}
        self.warnings: list[str] = []

    def selection(
        self, ladder: Sequence[Rung], chosen: Rung, series: Series, optimum: OptimumAtWidth, noise: Estimate
    ) -> Selection:
        if self.request.batch_size is not None or optimum.cell is not None:
            self.warn_of_edge(chosen)
        if self.request.batch_size is None and self.request.prefer != "metric" and not self.prospects:
            self.warnings.append(
                f"the preference for {self.request.prefer} is not used: without a law, it is not known which settings "
                "are as good as the best"
            )
        warnings, time = (*optimum.warnings, *self.warnings), self.training_time(series, optimum)
        return Selection(self.group, tuple(ladder), chosen, series, optimum, noise, time, self.edge_basis, warnings)

    def training_time(self, series: Series, optimum: OptimumAtWidth) -> float:
        if optimum.cell is not None:
            return optimum.cell.learning_rate * optimum.cell.steps
        return training_time(series, self.metric, optimum.measured_at or self.width)

    def warn_of_edge(self, rung: Rung) -> None:
        """Warn of a rung that was asked for, or trained, and that may be unstable."""
        if rung.stable is None:
            self.warnings.append(
                "no stability edge was measured, so it is not known whether the rate is stable at this batch size"
            )
        elif rung.learning_rate.value > rung.stability_edge.value:
            self.warnings.append(
                "at this batch size the rate lies above the stability edge: training is expected to fail"
            )
        elif not rung.stable:
            self.warnings.append("at this batch size the rate, or its interval, is not safely below the stability edge")

    def choose(self, rungs: Sequence[Rung], span: float) -> Rung:
        """Choose a rung by the preference."""
        candidates = [
            Candidate(
                rung.batch_size,
                rung.steps,
                self.times.seconds(rung.batch_size, self.width, rung.steps),
                self.prospects[rung.batch_size],
            )
            for rung in rungs
        ]
        return rungs[choose(candidates, self.request.prefer, self.request.tolerance, span)]

    def with_expectation(self, rung: Rung, reached: Prospect) -> Rung:
        """Return a rung with the metric that it is expected to reach."""
        self.prospects[rung.batch_size] = reached
        convention = f"test {self.metric}, mean over seeds"
        return replace(
            rung,
            expected_metric=reached.metric(self.metric, self.unit, convention),
            expected_regret=reached.regret(
                self.metric, self.unit, f"{self.metric} against the best setting of this width"
            ),
            reason=self.limits.fault(rung),
        )

    def without_expectation(self, rung: Rung, cause: str) -> Rung:
        """Return a rung whose metric is not known."""
        return replace(
            rung,
            expected_metric=unknown_metric(self.unit, cause),
            expected_regret=no_estimate(self.unit, cause),
            reason=self.limits.fault(rung),
        )

    def cell_rate(self, cell: Cell, trained_width: float) -> float:
        """Return the rate of a cell of another width, lowered to the share of the stability edge that it had there."""
        if self.edge is None:
            return cell.learning_rate
        there = measured_edge_at_width(self.group.edges, trained_width)
        share = 0.0 if there is None else cell.learning_rate / there.at(cell.batch_size).value
        highest = max(share, PRICE_FREE_SHARE) * self.edge.at(cell.batch_size).value
        if not cell.learning_rate > highest:
            return cell.learning_rate
        self.warnings.append(
            f"the rate of the best trained cell, {cell.learning_rate:g}, lies closer to the stability edge of width "
            f"{self.width:g} than to that of width {trained_width:g}: it is lowered to {highest:.3g}, the same share"
        )
        return highest
