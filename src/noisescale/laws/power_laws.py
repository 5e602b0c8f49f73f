"""The power law that ties a measured quantity to width, with an honest slope and prediction intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, from_log, two_sided
from noisescale.laws.tobit import CensoredLine

Array = NDArray[np.float64]

# The jackknife over ten seeds can by chance come out near zero; 0.02 is 2 % of the rate, below any ladder's step.
ERROR_FLOOR = 0.02
MINIMUM_WIDTHS = 4
# An optimum known to no better than a factor √2, while others are known three times better, is no point of a line: it
# keeps its small weight but not a degree of freedom (with it, four widths of which one is such cover 0.88).
_VAGUE_ERROR = math.log(math.sqrt(2))
_VAGUE_RATIO = 3.0


@dataclass(frozen=True)
class PowerLaw:
    """quantity = coefficient · width^slope over the widths that were measured.

    Args:
        quantity: what follows the law.
        status: "ok", or "inconclusive".
        advice: why, and what would mend it.
        method: least_squares, tobit (censored widths enter as inequalities) or none.
        slope: exponent with its 95 % interval.
        log_center: log quantity at the mean log width of the uncensored widths, with its interval.
        center: mean log width of the uncensored widths.
        lack_of_fit: between-width standard deviation τ of the log quantity beyond the seeds' noise.
        residual: residual standard deviation of the log quantity about the line.
        widths: the uncensored widths.
        censored: the widths that entered as inequalities.
        log_values: log quantity at `widths`.
        standard_errors: standard errors of `log_values`, floored at 0.02.
        degrees: degrees of freedom of each standard error.
        unit: unit of the quantity.
        convention: convention of the quantity.
        bounds: log of the bound of each censored width.
        directions: -1 where the quantity is at or below the bound, 1 where at or above.
    """

    quantity: str
    status: str
    advice: str
    method: str
    slope: Estimate
    log_center: Estimate
    center: float
    lack_of_fit: float
    residual: float
    widths: tuple[float, ...]
    censored: tuple[float, ...]
    log_values: tuple[float, ...]
    standard_errors: tuple[float, ...]
    degrees: tuple[float, ...]
    unit: str
    convention: str
    bounds: tuple[float, ...] = ()
    directions: tuple[int, ...] = ()

    @property
    def fitted(self) -> bool:
        """Whether there is a line at all (an inconclusive law may have one)."""
        return math.isfinite(self.slope.value)

    def log_at(self, width: float) -> float:
        """Log quantity on the line at a width."""
        return self.log_center.value + self.slope.value * (math.log(width) - self.center)

    def at(self, width: float, *, new: bool = True) -> Estimate:
        """The quantity at a width, with a 95 % interval.

        Args:
            width: a width, trained or not.
            new: True for a prediction interval (it adds the lack of fit τ² of one more width), False for the line.

        Returns:
            The estimate in natural units; all NaN without a line.
        """
        if not self.fitted:
            return Estimate(math.nan, math.nan, math.nan, self.unit, self.convention)
        x0 = math.log(width)
        if self.method == "tobit":
            low, high = self._line().profile(x0)
            value = self.log_at(width)
            extra = (
                two_sided(int(informative(np.array(self.standard_errors)).sum()) - 2) * self.lack_of_fit if new else 0.0
            )
            low, high = value - math.hypot(value - low, extra), value + math.hypot(high - value, extra)
            return from_log(value, low, high, self.unit, self.convention)
        fit = _WeightedLine(np.log(self.widths), np.array(self.log_values), np.array(self.standard_errors))
        value = self.log_at(width)
        half = fit.half_width(np.array([1.0, x0]), np.array(self.degrees), one_more=new)
        return from_log(value, value - half, value + half, self.unit, self.convention)

    def slope_errors(self) -> tuple[tuple[float, float], ...]:
        """(standard error, degrees of freedom) of the slope, by the seeds' noise and by the scatter about the line.

        Its interval is the wider one of both; a test of the slope must pass at both. Empty where there is no line, or
        widths entered as inequalities.
        """
        if self.method != "least_squares":
            return ()
        fit = _WeightedLine(np.log(self.widths), np.array(self.log_values), np.array(self.standard_errors))
        return fit.errors(np.array([0.0, 1.0]), np.array(self.degrees))

    def _line(self) -> CensoredLine:
        return CensoredLine(
            np.concatenate([np.log(self.widths), np.log(self.censored)]),
            np.concatenate([self.log_values, self.bounds]),
            np.concatenate([self.standard_errors, np.full(len(self.bounds), np.median(self.standard_errors))]),
            np.concatenate([np.zeros(len(self.widths)), self.directions]).astype(np.int64),
            int(informative(np.array(self.standard_errors)).sum()),
        )


def power_law(
    widths: Array,
    log_values: Array,
    standard_errors: Array,
    *,
    degrees: Array | float,
    censored: NDArray[np.int64] | None = None,
    quantity: str = "optimum",
    unit: str = "1",
    convention: str = "",
) -> PowerLaw:
    """Fit log quantity = a + slope · log width.

    Without censored widths: least squares with weights 1/(SE² + τ²), τ² by the mean square of the weighted residuals;
    half-width max(t_{W-2}·SE_residual, t_ν·SE_within), ν by Satterthwaite. Equal errors make it ordinary least squares;
    a width whose optimum is hardly identified hardly counts, and is not counted in W. With censored widths: Tobit
    likelihood with a between-width variance and the profile likelihood ratio, its threshold calibrated to the t of W-2
    degrees of freedom.

    Args:
        widths: widths, shape [W].
        log_values: log quantity, or log of the bound where censored, shape [W].
        standard_errors: of `log_values`, over seeds, shape [W]; ignored where censored.
        degrees: degrees of freedom of the standard errors (seeds - 1), shape [W] or one number.
        censored: -1 where the quantity is at or below the bound, 1 at or above, 0 measured, shape [W].
        quantity: name, for messages.
        unit: unit of the quantity.
        convention: convention of the quantity.

    Returns:
        The law; inconclusive with fewer than four uncensored widths.

    Raises:
        BadInput: Shapes that differ, or a value that is not finite.

    Source:
        Satterthwaite 1946; Paule and Mandel 1982 (τ²); Knapp and Hartung 2003 (residual error); Tobin 1958; coverage in
        `benchmarks/coverage.py`.
    """
    w = np.asarray(widths, dtype=np.float64)
    y = np.asarray(log_values, dtype=np.float64)
    se = np.asarray(standard_errors, dtype=np.float64)
    kind = np.zeros(w.shape, dtype=np.int64) if censored is None else np.asarray(censored, dtype=np.int64)
    nu = np.broadcast_to(np.asarray(degrees, dtype=np.float64), w.shape)
    if not (w.ndim == 1 and w.shape == y.shape == se.shape == kind.shape):
        raise BadInput(f"law of {quantity}", "one value, error and flag for every width", w.shape)
    if not np.all(np.isfinite(y)) or np.any(w <= 0):
        raise BadInput(f"law of {quantity}", "finite values at positive widths", y.tolist())
    free = kind == 0
    error = np.maximum(np.nan_to_num(se[free], nan=ERROR_FLOOR), ERROR_FLOOR)
    count = int(informative(error).sum())
    status = "ok" if count >= MINIMUM_WIDTHS else "inconclusive"
    advice = (
        f"{count} widths, {int((~free).sum())} more as inequalities"
        if status == "ok"
        else f"{count} widths with a well-known optimum; a law needs {MINIMUM_WIDTHS}: add widths, seeds or rungs"
    )
    nothing = Estimate(math.nan, math.nan, math.nan, "1", "no line")
    slope, centre_value, method, lack, residual = nothing, nothing, "none", math.nan, math.nan
    center = float(np.mean(np.log(w[free]))) if free.any() else math.nan
    slope_text = f"exponent of width in {quantity}"
    if free.sum() >= 2 and np.ptp(w[free]) > 0:
        fit = _WeightedLine(np.log(w[free]), y[free], error)
        lack, residual, method = fit.lack_of_fit, fit.residual, "least_squares"
        half = fit.half_width(np.array([0.0, 1.0]), nu[free])
        slope = Estimate(fit.slope, fit.slope - half, fit.slope + half, "1", slope_text)
        value, half = fit.at(center), fit.half_width(np.array([1.0, center]), nu[free])
        centre_value = Estimate(value, value - half, value + half, f"log {unit}", convention)
    if count >= MINIMUM_WIDTHS and not free.all():
        every = np.full(w.shape, float(np.median(error)))
        every[free] = error
        line = CensoredLine(np.log(w), y, every, kind, count)
        method, lack = "tobit", line.spread
        value = line.intercept + line.slope * center
        low, high = line.profile_slope()
        slope = Estimate(line.slope, low, high, "1", slope_text)
        low, high = line.profile(center)
        centre_value = Estimate(value, low, high, f"log {unit}", convention)
    return PowerLaw(
        quantity=quantity,
        status=status,
        advice=advice,
        method=method,
        slope=slope,
        log_center=centre_value,
        center=center,
        lack_of_fit=lack,
        residual=residual,
        widths=tuple(float(value) for value in w[free]),
        censored=tuple(float(value) for value in w[~free]),
        log_values=tuple(float(value) for value in y[free]),
        standard_errors=tuple(float(value) for value in error),
        degrees=tuple(float(value) for value in nu[free]),
        unit=unit,
        convention=convention,
        bounds=tuple(float(value) for value in y[~free]),
        directions=tuple(int(value) for value in kind[~free]),
    )


def informative(error: Array) -> NDArray[np.bool_]:
    """Which widths count as points of the line, by their standard errors of the log quantity, shape [W]."""
    limit = max(_VAGUE_ERROR, _VAGUE_RATIO * float(np.median(error))) if error.size else _VAGUE_ERROR
    return np.asarray(error <= limit)


class _WeightedLine:
    """A least-squares line with weights 1/(error² + τ²), τ² such that the weighted residuals have mean square 1."""

    def __init__(self, x: Array, y: Array, error: Array) -> None:
        self.error, self.free = error, x.size - 2
        self._counted = int(informative(error).sum()) - 2
        self._design = np.stack([np.ones_like(x), x], axis=1)
        square = self._lack_of_fit_square(y) if self.free > 0 else 0.0
        self.lack_of_fit = math.sqrt(square) if self.free > 0 else math.nan
        self._square = square
        self._solve(y, square)
        residuals = y - self._design @ self._coefficients
        self.residual = math.sqrt(float(np.sum(residuals**2)) / self.free) if self.free > 0 else math.nan
        weighted = float(np.sum(self._weights * residuals**2))
        # Below 1 only where the seeds' noise alone explains the scatter (τ = 0).
        self._scale = weighted / self.free if self.free > 0 else math.nan

    @property
    def slope(self) -> float:
        """Exponent."""
        return float(self._coefficients[1])

    def at(self, x0: float) -> float:
        """The line at x0."""
        return float(self._coefficients @ np.array([1.0, x0]))

    def half_width(self, combination: Array, degrees: Array, *, one_more: bool = False) -> float:
        """max(t·SE_residual, t·SE_within) of combination · (intercept, slope), for one more width's value if asked."""
        return max(two_sided(nu) * error for error, nu in self.errors(combination, degrees, one_more=one_more))

    def errors(self, combination: Array, degrees: Array, *, one_more: bool = False) -> tuple[tuple[float, float], ...]:
        """(standard error, degrees of freedom) within the widths, and by the residuals where there are enough."""
        points = self._maps.T @ combination
        variances = points**2 * self.error**2
        satterthwaite = float(np.sum(variances) ** 2 / np.sum(variances**2 / degrees))
        within = float(np.sum(variances)) + (self._square if one_more else 0.0)
        own = (math.sqrt(within), satterthwaite)
        if self.free <= 0:
            return (own,)
        spread = float(combination @ self._covariance @ combination)
        if one_more:
            spread += self._square + float(np.mean(np.sort(self.error**2)[: self.free]))
        return own, (math.sqrt(self._scale * spread), float(self._counted))

    def _solve(self, y: Array, square: float) -> None:
        self._weights = 1 / (self.error**2 + square)
        self._covariance = np.linalg.inv(self._design.T @ (self._weights[:, None] * self._design))
        self._maps = self._covariance @ self._design.T * self._weights
        self._coefficients = self._maps @ y

    def _lack_of_fit_square(self, y: Array) -> float:
        def excess(square: float) -> float:
            self._solve(y, square)
            return float(np.sum(self._weights * (y - self._design @ self._coefficients) ** 2)) - self.free

        if excess(0.0) <= 0:
            return 0.0
        high = float(np.var(y)) + float(np.max(self.error)) ** 2
        while excess(high) > 0:
            high *= 2
        return float(brentq(excess, 0.0, high, xtol=1e-12))
