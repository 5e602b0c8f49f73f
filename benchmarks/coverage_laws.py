"""Coverage of the intervals that follow from optima and from failures: slopes, edges, largest batches and trends.

An unbounded interval always covers here, so the share of unbounded intervals is printed too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from coverage_study import by_batch, noise_law
from coverage_table import Row, Tally
from numpy.typing import NDArray

from noisescale.estimate import from_log
from noisescale.laws.edge_by_batch import EdgeByBatch
from noisescale.laws.largest_batch import largest_batch
from noisescale.laws.optimum import optimum
from noisescale.laws.planted_curves import PlantedCurve, failures, planted_curve, planted_widths, two_peaks
from noisescale.laws.stability import stability_edge
from noisescale.laws.trends import trend

Array = NDArray[np.float64]
STEP = math.log(math.sqrt(2))
LADDER: Array = np.asarray(np.arange(18) * STEP, dtype=np.float64)
BATCH_LADDER: Array = np.sort(math.log(4000) - np.log([1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128]))
WIDTHS = (8, 16, 32, 64, 128, 256)


def jitter(generator: np.random.Generator) -> float:
    """Draw a shift of up to half a cell, because the coverage must hold for any position of the truth between cells."""
    return float(generator.uniform(-0.5, 0.5)) * STEP


OPTIMA: dict[str, tuple[Callable[[np.random.Generator], PlantedCurve], str]] = {
    "shallow": (lambda g: planted_curve(LADDER, LADDER[9] + jitter(g), curvature=0.02), ""),
    "flat": (
        lambda g: planted_curve(LADDER, LADDER[9] + jitter(g), curvature=0.004),
        "open intervals are correct here",
    ),
    "integer batches near 3": (lambda g: planted_curve(BATCH_LADDER, math.log(4000 / 3) + jitter(g)), ""),
    "two peaks, higher one": (lambda g: two_peaks(LADDER, LADDER[5], LADDER[13]), ""),
    "cut grid, optimum outside": (lambda g: planted_curve(LADDER, LADDER[0] - 0.3), "censored: one side is open"),
    "cut grid, optimum in second cell": (lambda g: planted_curve(LADDER, LADDER[1] + jitter(g)), ""),
}


def optima(draws: int, seeds: int) -> Iterator[Row]:
    """Measure the coverage of the optimum and of the metric at the optimum, on ladders without a clear peak inside."""
    for case, (make, note) in OPTIMA.items():
        generator = np.random.default_rng(1)
        location, height = Tally("optimum", case, seeds, note), Tally("peak height", case, seeds)
        two_peaks_reported = 0
        for _ in range(draws):
            curve = make(generator)
            estimate = optimum(curve.x, curve.draw(generator, seeds))
            two_peaks_reported += estimate.label == "two_peaks"
            location.add(estimate.place.low, curve.optimum, estimate.place.high, censored=estimate.censored != 0)
            if case.startswith("cut") or case.startswith("two"):
                continue
            height.add(estimate.height.low, 0.6, estimate.height.high)
        share = f"called two peaks in {two_peaks_reported / draws:.1%}" if two_peaks_reported else ""
        location.note = "; ".join(filter(None, (note, share)))
        yield location.row
        if height.draws:
            yield height.row
    generator = np.random.default_rng(2)
    both_peaks = Tally("optimum", "two peaks, each where both are found", seeds)
    for _ in range(draws):
        curve = two_peaks(LADDER, LADDER[5], LADDER[13])
        estimate = optimum(curve.x, curve.draw(generator, seeds))
        if estimate.label != "two_peaks":
            both_peaks.exclude()
            continue
        peaks = sorted(estimate.peaks, key=lambda peak: peak.place.value)
        for peak, truth in zip(peaks, (curve.second, curve.optimum), strict=True):
            both_peaks.add(peak.place.low, truth, peak.place.high)
    yield both_peaks.row


def slopes(draws: int, seeds: int) -> Iterator[Row]:
    """Measure the coverage of the slope over six widths, and of the prediction for twice the largest width."""
    cases: list[tuple[str, float, float, int]] = [
        ("no lack of fit", 0.0, 0.08, 0),
        ("lack of fit 0.1", 0.1, 0.08, 0),
        ("lack of fit 0.2", 0.2, 0.08, 0),
        ("lack of fit 0.4", 0.4, 0.08, 0),
        ("shallow peaks", 0.0, 0.02, 0),
        ("flat peaks", 0.1, 0.004, 0),
        ("cut grid, narrow widths censored", 0.1, 0.08, 5),
    ]
    for case, lack, curvature, cut in cases:
        generator = np.random.default_rng(3)
        slope = Tally("slope", case, seeds)
        bounded = Tally("slope of the line with bounds", case, seeds)
        prediction = Tally("optimum at twice the largest width", case, seeds)
        for _ in range(draws):
            curves = planted_widths(
                generator, (*WIDTHS, 512), LADDER, middle=LADDER[9], lack_of_fit=lack, curvature=curvature
            )
            estimates = [optimum(LADDER[cut:], curve.draw(generator, seeds)[:, cut:]) for curve in curves[:-1]]
            law, line = noise_law(WIDTHS, estimates), noise_law(WIDTHS, estimates, bounded=True)
            if line.status == "ok":
                bounded.add(line.slope.low, 1.0, line.slope.high, censored=len(line.censored) > 0)
            else:
                bounded.exclude()
            if law.status != "ok":
                slope.exclude()
                prediction.exclude()
                continue
            slope.add(law.slope.low, 1.0, law.slope.high, censored=len(law.censored) > 0)
            prediction.add_log(law.at(512), math.exp(curves[-1].optimum), censored=len(law.censored) > 0)
        yield slope.row
        yield prediction.row
        if cut:
            yield bounded.row


def edges(draws: int, seeds: int) -> Iterator[Row]:
    """Measure the coverage of the largest stable rate on a √2 ladder. Seeds differ by less or by more than a cell."""
    rates = np.exp(np.arange(-12, 13) * STEP)
    for cells, fractal in ((0.1, 0.0), (0.3, 0.0), (0.5, 0.0), (1.0, 0.0), (1.0, 0.1), (2.0, 0.0), (4.0, 0.0)):
        generator = np.random.default_rng(4)
        case = f"seeds differ by {cells:g} cells" + (", stability returns in 10 %" if fractal else "")
        note = "all seeds fail in one or two cells: the ladder, not the seeds, sets the interval" if cells < 0.4 else ""
        rate = Tally("largest stable rate", case, seeds, note)
        conservative = "outward to whole cells: conservative by design"
        distribution_free = Tally("largest stable rate, any distribution", case, seeds, conservative)
        for _ in range(draws):
            median = math.exp(jitter(generator))
            failed = failures(generator, rates, median, cells * STEP, seeds, fractal)
            # The estimator uses the first failure, which comes later if training is stable again at some higher rates.
            truth = median if not fractal else median * math.exp(_delay(fractal, cells))
            edge = stability_edge(rates, failed)
            rate.add_log(edge.rate, truth)
            distribution_free.add_log(edge.distribution_free, truth)
        yield rate.row
        yield distribution_free.row


def _delay(fractal: float, cells: float) -> float:
    """Return the median shift of the first failure, in nats, if each failing rate succeeds with this probability."""
    generator = np.random.default_rng(5)
    thresholds = cells * generator.standard_normal(200_000) + generator.uniform(-0.5, 0.5, 200_000)
    spared = generator.geometric(1 - fractal, 200_000) - 1
    return float(np.median(thresholds + spared) - np.median(thresholds)) * STEP


def batches(draws: int, seeds: int) -> Iterator[Row]:
    """Measure the coverage of the largest batch size. Both the optimum and the stability edges are drawn."""
    size, measured = 4000, (1, 2, 4, 8, 32)
    for cells in (0.3, 1.0, 2.0):
        generator = np.random.default_rng(6)
        tally = Tally("largest batch", f"skewed peak, edges differ by {cells:g} cells", seeds)
        for _ in range(draws):
            truth = {batch: 2 * (1 - math.exp(-batch / 3)) for batch in measured}
            rates = 2 * np.exp(np.arange(-16, 10) * STEP + jitter(generator))
            edge_of = {
                batch: stability_edge(rates, failures(generator, rates, truth[batch], cells * STEP, seeds))
                for batch in measured
            }
            exact = EdgeByBatch(tuple(map(float, measured)), *[tuple(np.log(list(truth.values())))] * 3)
            true_batch = math.exp(generator.uniform(math.log(2), math.log(16)))
            noise = exact.at(true_batch).value * (size / true_batch - 1)
            x = LADDER - LADDER[9] + math.log(noise) + jitter(generator)
            peak = optimum(x, planted_curve(x, math.log(noise)).draw(generator, seeds))
            best_noise = from_log(peak.place.value, peak.place.low, peak.place.high, "examples", "g")
            result = largest_batch(best_noise, by_batch(edge_of), train_size=size)
            if result.label in ("unreachable", "not_measured"):
                tally.exclude()
            else:
                tally.add_log(result.batch_size, true_batch)
        tally.note = "excluded: even a batch of one gives too little noise"
        yield tally.row


def trends(draws: int, seeds: int) -> Iterator[Row]:
    """Measure the coverage of the gain in peak accuracy per doubling of width, and of the rank correlation."""
    widths, means = np.array(WIDTHS, dtype=float), 0.5 + 0.005 * np.arange(len(WIDTHS))
    generator = np.random.default_rng(7)

    def sample(count: int) -> Array:
        return means + 0.008 * generator.standard_normal((count, len(WIDTHS)))

    truth = trend(widths, sample(200_000)).spearman.value
    gain, rank = Tally("gain per doubling", "rising", seeds), Tally("Spearman correlation", "rising", seeds)
    for _ in range(draws):
        estimate = trend(widths, sample(seeds))
        gain.add(estimate.gain_per_doubling.low, 0.005, estimate.gain_per_doubling.high)
        rank.add(estimate.spearman.low, truth, estimate.spearman.high)
    yield gain.row
    yield rank.row


def other_rows(draws: int, seeds: int) -> Iterator[Row]:
    """Yield the lines of the table for all cases of this module.

    Args:
        draws: Number of draws of each case.
        seeds: Number of seeds in each draw.
    """
    for part in (optima, slopes, edges, batches, trends):
        yield from part(draws, seeds)
