"""The rungs of an optimizer without a noise law, such as AdamW: each trained batch size has a best rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, no_estimate
from noisescale.laws.constant_predictor import any_run_trained
from noisescale.laws.expected_metrics import prospect
from noisescale.laws.fitting import STABILITY_SHARE
from noisescale.laws.optimum_at_width import OptimumAtWidth, optimum_at_width
from noisescale.laws.quantities import NO_NOISE_SCALE
from noisescale.laws.recommendation import Rung
from noisescale.laws.results import Series
from noisescale.laws.rung_ladder import RungLadder, Selection
from noisescale.laws.rungs import Limits, rung_of_rate
from noisescale.training import METRICS


class RateRungs(RungLadder):
    """Rungs at the trained batch sizes, where no law of the noise relates different batch sizes."""

    def select(self) -> Selection:
        """Make the rungs and choose one."""
        all_series = {round(series.fixed_value): series for series in self.group.series}
        batch = self.request.batch_size
        if batch is not None and batch not in all_series:
            known, optimizer = ", ".join(map(str, all_series)), self.group.hyperparameters.get("optimizer")
            required = f"a trained batch size ({known}): no law relates the rate of {optimizer} to the batch"
            raise BadInput("batch_size", required, batch)
        # A batch size whose runs all failed has no optimum.
        trained = {size: series for size, series in all_series.items() if any_run_trained(series.widths)} or all_series
        optima = {
            size: optimum_at_width(series, self.metric, self.width, self.group)
            for size, series in (trained if batch is None else {**trained, batch: all_series[batch]}).items()
        }
        asked = [size for size in optima if batch in (None, size)]
        # The best setting of the width may have another batch size than the user asked for.
        heights = [outlook.heights.mean() for optimum in optima.values() if (outlook := optimum.outlook) is not None]
        rungs = [self.rung(size, all_series[size], optima[size], max(heights, default=math.nan)) for size in asked]
        chosen = self.chosen(rungs, {size: optima[size] for size in asked})
        series, optimum = all_series[chosen.batch_size], optima[chosen.batch_size]
        return self.selection(rungs, chosen, series, optimum, no_estimate("1", NO_NOISE_SCALE))

    def rung(self, batch: int, series: Series, optimum: OptimumAtWidth, ceiling: float) -> Rung:
        """Return the rung of a batch size, with a rate that the study supports."""
        limits, rate = Limits.of([series], self.edge), optimum.value
        if optimum.cell is not None:
            value = self.cell_rate(optimum.cell, optimum.measured_at or self.width)
        else:
            value = min(max(rate.value, limits.rates[0]), limits.rates[1])
            if self.edge is not None:
                value = min(value, STABILITY_SHARE * self.edge.at(batch).value)
        if value != rate.value:
            rate = Estimate(value, math.nan, math.nan, rate.unit, rate.convention)
        rung = rung_of_rate(series, rate, self.edge)
        if optimum.outlook is None:
            return self.without_expectation(rung, "no law is known")
        return self.with_expectation(rung, replace(prospect(optimum.outlook, math.log(value)), ceiling=ceiling))

    def chosen(self, rungs: Sequence[Rung], optima: dict[int, OptimumAtWidth]) -> Rung:
        """Choose a rung: by the preference, or else the batch size of the best trained cell."""
        known = [rung for rung in rungs if rung.batch_size in self.prospects]
        if known:
            spans = [outlook.span for optimum in optima.values() if (outlook := optimum.outlook) is not None]
            return self.choose(known, max(spans))
        sign = METRICS[self.metric].sign
        cells = {size: cell for size, optimum in optima.items() if (cell := optimum.cell) is not None}
        best = max(cells, key=lambda size: sign * cells[size].metrics[self.metric].value, default=rungs[0].batch_size)
        return next(rung for rung in rungs if rung.batch_size == best)
