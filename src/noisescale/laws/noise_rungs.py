"""The rungs of an optimizer with a noise law: every batch size has the rate that gives the same noise scale."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput
from noisescale.estimate import Estimate
from noisescale.laws.edges import measured_edge_at_width
from noisescale.laws.expected_metrics import prospect
from noisescale.laws.ladder import Cell
from noisescale.laws.nearest import nearest_by_factor
from noisescale.laws.optimum_at_width import optimum_at_width
from noisescale.laws.recommendation import Rung
from noisescale.laws.rung_ladder import RungLadder, Selection
from noisescale.laws.rungs import (
    candidate_batches,
    epochs_of,
    log_ratio_at,
    make_rung,
    rung_of_noise,
    scaled,
    trainable,
    without_interval,
)
from noisescale.noise_laws import NOISE_SCALE

Array = NDArray[np.float64]


class NoiseRungs(RungLadder):
    """Rungs that share a noise scale."""

    def select(self) -> Selection:
        """Make the rungs and choose one."""
        self.series = self.group.primary_series
        self.train_size = self.series.widths[-1].train_size
        optimum = optimum_at_width(self.series, self.metric, self.width, self.group)
        ratio = log_ratio_at(self.series, self.width)
        batch, cell = self.request.batch_size, optimum.cell
        if batch is not None and not 1 <= batch < self.train_size:
            required = f"a whole number from 1 to {self.train_size - 1}, because larger batches have no gradient noise"
            raise BadInput("batch_size", required, batch)
        formula = NOISE_SCALE.formula(self.fitted.replacement)
        if cell is None:
            noise = scaled(optimum.value, -ratio, NOISE_SCALE.unit, formula)
        else:
            rate = self.cell_rate(cell, optimum.measured_at or self.width)
            noise = Estimate(
                cell.noise_scale * rate / cell.learning_rate, math.nan, math.nan, NOISE_SCALE.unit, formula
            )
            optimum = replace(optimum, value=scaled(noise, ratio, "1", optimum.value.convention))
        self.noise, self.optimum, self.time = noise, optimum, self.training_time(self.series, optimum)
        self.paid = self.price_paid()
        rungs = [self.with_reason(self.equal_noise(size)) for size in self.batches(batch, cell)]
        if batch is not None:
            chosen = rungs[0]
        elif cell is not None:
            chosen = next(rung for rung in rungs if rung.batch_size == round(cell.batch_size))
        else:
            if all(rung.reason for rung in rungs):
                rungs = [self.with_reason(self.within_limits(rung)) for rung in rungs]
                self.warnings.append(
                    "no setting near the trained ones reaches the noise scale of least expected regret, "
                    f"{optimum.value}: each batch size has the nearest rate that the study supports"
                )
            chosen = self.chosen(rungs)
            if self.edge is None:
                self.warnings.append("no stability edge was measured: no rate above the trained ones is recommended")
        if shift := self.shift(chosen):
            # The interval of the optimum need not hold the value of another setting.
            optimum = replace(
                optimum, value=without_interval(scaled(optimum.value, shift, "1", optimum.value.convention))
            )
            noise = without_interval(scaled(noise, shift, noise.unit, noise.convention))
        return self.selection(rungs, chosen, self.series, optimum, noise)

    def chosen(self, rungs: list[Rung]) -> Rung:
        """Choose among the rungs that may be recommended; if there are none, take the one nearest to its limit."""
        allowed = [rung for rung in rungs if not rung.reason]
        if not allowed:
            near = [rung for rung in rungs if self.limits.near_batch(rung.batch_size)] or rungs
            lowest = min(near, key=lambda rung: rung.learning_rate.value / self.limits.highest(rung.batch_size))
            self.warnings.append(f"no batch size is safe at this width; at B = {lowest.batch_size} {lowest.reason}")
            return lowest
        known = [rung for rung in allowed if rung.batch_size in self.prospects]
        if self.optimum.outlook is None or not known:
            return allowed[-1]
        return self.choose(known, self.optimum.outlook.span)

    def batches(self, batch: int | None, cell: Cell | None) -> list[int]:
        """Return the batch sizes of the rungs."""
        sizes = [batch] if batch is not None else candidate_batches(self.train_size)
        sizes = sizes if self.study is None else trainable(sizes, self.study, batch is not None)
        # The batch size of a cell was trained, whatever the study records of its model.
        return sizes if cell is None or batch is not None else sorted({*sizes, round(cell.batch_size)})

    def equal_noise(self, batch: int) -> Rung:
        """Return the rung with the noise scale of least expected regret."""
        epochs = epochs_of(self.series) if self.series.budget == "epochs" else math.nan
        momentum = float(self.group.hyperparameters["momentum"])
        return rung_of_noise(
            batch, self.noise, self.edge, self.time, epochs, self.train_size, momentum, self.fitted.replacement
        )

    def within_limits(self, rung: Rung) -> Rung:
        """Return the rung with the nearest rate that the study supports."""
        rate = rung.learning_rate.value
        nearest = min(max(rate, self.limits.rates[0]), self.limits.highest(rung.batch_size))
        if not self.limits.near_batch(rung.batch_size) or nearest == rate:
            return rung
        estimate = Estimate(nearest, math.nan, math.nan, "1", rung.learning_rate.convention)
        steps = rung.steps if self.series.budget == "epochs" else self.time / nearest
        return make_rung(rung.batch_size, estimate, self.edge, steps)

    def with_reason(self, rung: Rung) -> Rung:
        """Return a rung with its expected metric, if a law is known, and the reason against it."""
        if self.optimum.outlook is None:
            return self.without_expectation(rung, "no law is known")
        place, outlook = math.log(self.optimum.value.value) + self.shift(rung), self.optimum.outlook
        price = self.limits.price_of(rung.learning_rate.value, rung.stability_edge.value, outlook.places.size)
        if price is None:
            return self.without_expectation(rung, "the price of this rate was not measured")
        return self.with_expectation(rung, prospect(outlook, place, price, self.paid))

    def shift(self, rung: Rung) -> float:
        """Return the log ratio of a rung's noise scale to that of least expected regret."""
        return math.log(rung.learning_rate.value / self.equal_noise(rung.batch_size).learning_rate.value)

    def price_paid(self) -> Array | float:
        """Return the price of the rates of the cells behind the heights: those at the nearest width's optimum."""
        if self.optimum.outlook is None:
            return 0.0
        rows = {row.width: row for row in self.series.widths if self.metric in row.optima}
        row = rows[nearest_by_factor(rows, self.width)]
        optimum, edge = row.optima[self.metric], measured_edge_at_width(self.group.edges, row.width)
        rate, batch = optimum.learning_rate.value, optimum.batch_size.value
        if edge is None or not (math.isfinite(rate) and batch > 0):
            return 0.0
        price = self.limits.price_of(rate, edge.at(batch).value, self.optimum.outlook.places.size)
        return 0.0 if price is None else price
