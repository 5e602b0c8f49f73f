"""The rungs of an optimizer without a noise law, such as AdamW: each trained batch size has a best rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, no_estimate
from noisescale.laws.expected_metrics import prospect
from noisescale.laws.fitting import STABILITY_SHARE
from noisescale.laws.optimum_at_width import OptimumAtWidth, optimum_at_width
from noisescale.laws.recommendation import Rung
from noisescale.laws.results import Series
from noisescale.laws.rung_ladder import RungLadder, Selection
from noisescale.laws.rungs import Limits, rung_of_rate
from noisescale.training import METRICS


class RateRungs(RungLadder):
    """Rungs at the trained batch sizes, for an optimizer without a noise scale."""

    def select(self) -> Selection:
        """Make the rungs and choose one."""
        sizes = [round(series.fixed_value) for series in self.group.series]
        batch = self.request.batch_size
        if batch is not None and batch not in sizes:
            known, optimizer = ", ".join(map(str, sizes)), self.group.hyperparameters.get("optimizer")
            required = f"a trained batch size ({known}): no law relates the rate of {optimizer} to the batch"
            raise BadInput("batch_size", required, batch)
        optima = {
            size: (series, optimum_at_width(series, self.metric, self.width))
            for size, series in zip(sizes, self.group.series, strict=True)
            if batch in (None, size)
        }
        rungs = []
        for size, (series, optimum) in optima.items():
            rungs.append(self.rung(size, series, optimum))
        highest = max((float(part.heights.mean()) for part in self.prospects.values()), default=math.nan)
        self.prospects = {size: replace(part, ceiling=highest) for size, part in self.prospects.items()}
        rungs = [
            self.with_expectation(rung, self.prospects[rung.batch_size]) if rung.batch_size in self.prospects else rung
            for rung in rungs
        ]
        chosen = self.chosen(rungs, {size: optimum for size, (_, optimum) in optima.items()})
        series, optimum = optima[chosen.batch_size]
        return self.selection(rungs, chosen, series, optimum, no_estimate("1", "the optimizer has no noise scale"))

    def rung(self, batch: int, series: Series, optimum: OptimumAtWidth) -> Rung:
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
        if optimum.outlook is not None:
            self.prospects[batch] = prospect(optimum.outlook, math.log(value))
        return rung

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
