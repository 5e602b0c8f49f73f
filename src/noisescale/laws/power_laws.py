"""Power laws of a measured quantity against width, with intervals of the slope and prediction intervals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy.optimize import brentq
from scipy.special import fdtrc

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, from_log, no_estimate, two_sided
from noisescale.laws.place_laws import PlaceLaw
from noisescale.laws.tobit import CensoredLine

Array = NDArray[np.float64]

# Smallest standard error of a log value, because a jackknife error over ten seeds can be near zero by chance. It is 2 %
# of the quantity, less than the step of any ladder.
ERROR_FLOOR = 0.02
MINIMUM_WIDTHS = 4
# A vague optimum has a standard error above a factor √2 and above three times the median error, and adds almost nothing
# to a line. It keeps its small weight but does not count as a degree of freedom. If it counted, intervals from four
# widths with one vague optimum would cover the truth in only 88 % of the draws.
_VAGUE_ERROR = math.log(math.sqrt(2))
_VAGUE_RATIO = 3.0
# Level of the test of whether widths scatter about a line by more than the noise of the seeds. At 0.05, a tenth of the
# undecided lines without any lack of fit would fail it, because undecided lines are those that scatter most.
_LACK_OF_FIT_LEVEL = 0.01


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class PowerLaw:
    """The law quantity = coefficient · width^slope over the measured widths, which may bend.

    Args:
        quantity: Name of the quantity.
        status: "ok" or "inconclusive".
        advice: Reason for the status, and the remedy.
        method: "posterior" (the law of an optimum), "least_squares", "tobit" (censored widths enter as inequalities) or
            "none".
        slope: Exponent of width, with its 95 % interval.
        log_center: Log quantity at `center`, with its interval.
        center: Mean log width of the widths with a measured value.
        lack_of_fit: Standard deviation τ of the scatter of the log quantity about the line, without the part that the
            noise of the seeds explains.
        residual: Residual standard deviation of the log quantity about the line.
        widths: Widths with a measured value.
        censored: Widths with only a bound; they enter as inequalities.
        log_values: Log quantity at each of `widths`.
        standard_errors: Standard error of each of `log_values`, at least 0.02.
        degrees: Degrees of freedom of each standard error.
        unit: Unit of the quantity.
        convention: Definition of the quantity.
        bounds: Log of the bound at each censored width.
        directions: -1 if the quantity is at or below the bound, 1 if at or above, for each censored width.
        curvature: Change of the log quantity per square of the log width; NaN if the law is a straight line.
        posterior: Posterior of the law of an optimum; None otherwise. It is left out of the JSON form.
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
    curvature: Estimate = no_estimate("1", "a straight line")
    posterior: PlaceLaw | None = Field(default=None, exclude=True, repr=False)

    @property
    def fitted(self) -> bool:
        """Return whether there is a line; an inconclusive law may have a line too."""
        return math.isfinite(self.slope.value)

    def log_at(self, width: float) -> float:
        """Return the log quantity on the law at a width."""
        if self.posterior is not None:
            return float(self.posterior.predicted({"width": math.log(width)}, new=False)[0])
        return self.log_center.value + self.slope.value * (math.log(width) - self.center)

    def at(self, width: float, *, new: bool = True) -> Estimate:
        """Return the quantity at a width, with a 95 % interval.

        Args:
            width: Any width, trained or not.
            new: True for a prediction interval, which adds the lack of fit τ² of a new width; False for the interval
                of the line.

        Returns:
            The estimate in natural units; NaN without a line.
        """
        if not self.fitted:
            return no_estimate(self.unit, self.convention)
        x0 = math.log(width)
        if self.posterior is not None:
            value, low, high = self.posterior.predicted({"width": x0}, new=new)
            return from_log(float(value), float(low), float(high), self.unit, self.convention)
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
        half = fit.half_width(np.array([1.0, x0]), np.array(self.degrees), new_width=new)
        return from_log(value, value - half, value + half, self.unit, self.convention)

    @property
    def bends(self) -> bool:
        """Return whether the interval of the curvature excludes a straight line."""
        return self.curvature.high < 0 or self.curvature.low > 0

    def exponent_at(self, width: float) -> Estimate:
        """Return the exponent of width at a width, with its 95 % interval; a law that bends has several."""
        if self.posterior is None:
            return self.slope
        value, low, high = self.posterior.exponent({"width": math.log(width)}, "width")
        return Estimate(value, low, high, "1", f"{self.slope.convention} at width {width:g}")

    def slope_errors(self) -> tuple[tuple[float, float], ...]:
        """Return (standard error, degrees of freedom) of the slope, from the seeds' noise and from the residuals.

        The slope's interval is the wider of the two intervals that these errors give. A test of the slope must
        therefore pass with both errors. The result is empty if there is no line or if widths enter as inequalities.
        """
        if self.posterior is not None:
            return self._posterior_errors(self.posterior)
        if self.method != "least_squares":
            return ()
        fit = _WeightedLine(np.log(self.widths), np.array(self.log_values), np.array(self.standard_errors))
        return fit.errors(np.array([0.0, 1.0]), np.array(self.degrees))

    def slope_lack_of_fit(self) -> float:
        """Return the standard error of the slope that the lack of fit τ gives, which more seeds do not reduce.

        It is 0 if the noise of the seeds may explain the scatter of the widths: an F test of the weighted residuals at
        level 0.01, with the errors of the seeds as the denominator. Otherwise it is the part of the error that these
        errors do not explain. With a Tobit fit, it is the share τ²/(τ² + SE²) of the variance of the slope, with the
        median standard error SE of the widths. It is NaN without a line.
        """
        if self.method == "none":
            return math.nan
        x, y, errors = np.log(self.widths), np.array(self.log_values), np.array(self.standard_errors)
        # The law of an optimum may bend, which is not a lack of fit.
        order = 2 if self.posterior is not None else 1
        if _scatter_p_value(x, y, np.maximum(errors, ERROR_FLOOR), np.array(self.degrees), order) > _LACK_OF_FIT_LEVEL:
            return 0.0
        if self.posterior is not None:
            return self._posterior_errors(self.posterior)[1][0]
        if self.method == "least_squares":
            return _WeightedLine(x, y, errors).error_of_lack_of_fit(np.array([0.0, 1.0]))
        degrees = float(informative(errors).sum()) - 2
        error = (self.slope.high - self.slope.low) / 2 / two_sided(degrees)
        return error * self.lack_of_fit / math.hypot(self.lack_of_fit, float(np.median(errors)))

    def _posterior_errors(self, posterior: PlaceLaw) -> tuple[tuple[float, float], ...]:
        """Return the error of the exponent, and its part that the noise of the seeds does not explain."""
        total = posterior.parameter(1)[3]
        weights = np.log(self.widths) - np.mean(np.log(self.widths))
        weights /= np.sum(weights**2)
        variances = (weights * np.array(self.standard_errors)) ** 2
        within = float(np.sum(variances))
        degrees = within**2 / float(np.sum(variances**2 / np.array(self.degrees)))
        scatter = math.sqrt(max(total**2 - within, 0.0))
        return (total, degrees * (total**2 / within) ** 2), (scatter, max(len(self.widths) - 2.0, 1.0))

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
    axis: str = "width",
) -> PowerLaw:
    """Fit the line log quantity = a + slope · log width.

    If every width has a measured value, the fit is least squares with weights 1/(SE² + τ²). τ² makes the mean square of
    the weighted residuals 1. With equal standard errors this is ordinary least squares. A width whose optimum is poorly
    identified gets a small weight and does not count in the number W of widths. The half-width of an interval is
    max(t_{W-2}·SE_residual, t_ν·SE_within): SE_residual follows from the scatter about the line, and SE_within from the
    noise of the seeds, with ν degrees of freedom by Satterthwaite.

    If some widths have only a bound (censored), the fit maximizes a Tobit likelihood with the variance τ² between
    widths. Its intervals come from the profile likelihood ratio, with a threshold that matches Student's t with W-2
    degrees of freedom.

    Args:
        widths: Widths, shape [W].
        log_values: Log quantity, or the log of the bound if censored, shape [W].
        standard_errors: Standard errors of `log_values` over seeds, shape [W]; ignored for censored widths.
        degrees: Degrees of freedom of the standard errors (seeds - 1), shape [W] or a single number.
        censored: -1 if the quantity is at or below the bound, 1 if at or above, 0 if measured, shape [W].
        quantity: Name of the quantity, for messages.
        unit: Unit of the quantity.
        convention: Definition of the quantity.
        axis: Name of the axis, for messages. For another axis than "width", the widths are positions on that axis.

    Returns:
        The law. It is inconclusive with fewer than four widths that have a well-determined measured value.

    Raises:
        BadInput: The shapes differ, or a value is not finite.

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
        raise BadInput(f"law of {quantity}", "a value, an error and a flag for every width", w.shape)
    if not np.all(np.isfinite(y)) or np.any(w <= 0):
        raise BadInput(f"law of {quantity}", "finite values at positive widths", y.tolist())
    free = kind == 0
    error = np.maximum(np.nan_to_num(se[free], nan=ERROR_FLOOR), ERROR_FLOOR)
    count = int(informative(error).sum())
    status = "ok" if count >= MINIMUM_WIDTHS else "inconclusive"
    advice = (
        f"{count} {axis}s, and {int((~free).sum())} as inequalities"
        if status == "ok"
        else f"a law needs {MINIMUM_WIDTHS} {axis}s with a well-determined optimum (got {count}): "
        f"add {axis}s, seeds or rungs"
    )
    no_line = no_estimate("1", "no line")
    slope, log_center, method, lack, residual = no_line, no_line, "none", math.nan, math.nan
    center = float(np.mean(np.log(w[free]))) if free.any() else math.nan
    slope_text = f"exponent of {axis} in {quantity}"
    if free.sum() >= 2 and np.ptp(w[free]) > 0:
        fit = _WeightedLine(np.log(w[free]), y[free], error)
        lack, residual, method = fit.lack_of_fit, fit.residual, "least_squares"
        half = fit.half_width(np.array([0.0, 1.0]), nu[free])
        slope = Estimate(fit.slope, fit.slope - half, fit.slope + half, "1", slope_text)
        value, half = fit.at(center), fit.half_width(np.array([1.0, center]), nu[free])
        log_center = Estimate(value, value - half, value + half, f"log {unit}", convention)
    if count >= MINIMUM_WIDTHS and not free.all():
        errors = np.full(w.shape, float(np.median(error)))
        errors[free] = error
        line = CensoredLine(np.log(w), y, errors, kind, count)
        method, lack = "tobit", line.spread
        value = line.intercept + line.slope * center
        low, high = line.profile_slope()
        slope = Estimate(line.slope, low, high, "1", slope_text)
        low, high = line.profile(center)
        log_center = Estimate(value, low, high, f"log {unit}", convention)
    return PowerLaw(
        quantity=quantity,
        status=status,
        advice=advice,
        method=method,
        slope=slope,
        log_center=log_center,
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
    """Return the mask of the widths whose standard error is small enough to count as points, shape [W]."""
    limit = max(_VAGUE_ERROR, _VAGUE_RATIO * float(np.median(error))) if error.size else _VAGUE_ERROR
    return np.asarray(error <= limit)


def _scatter_p_value(x: Array, y: Array, error: Array, degrees: Array, order: int) -> float:
    """Return the p-value of the test that the noise of the seeds explains the scatter about a polynomial."""
    free = x.size - order - 1
    if free <= 0:
        return 1.0
    design = np.vander(x - x.mean(), order + 1) / error[:, None]
    coefficients = np.linalg.lstsq(design, y / error, rcond=None)[0]
    square = float(np.sum((y / error - design @ coefficients) ** 2))
    return float(fdtrc(free, float(np.sum(degrees)), square / free))


class _WeightedLine:
    """A least-squares line with weights 1/(error² + τ²); τ² makes the mean square of the weighted residuals 1."""

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
        # This mean square is below 1 only if the noise of the seeds alone explains the scatter (τ = 0).
        self._scale = weighted / self.free if self.free > 0 else math.nan

    @property
    def slope(self) -> float:
        """Slope of the line."""
        return float(self._coefficients[1])

    def at(self, x0: float) -> float:
        """Return the line at x0."""
        return float(self._coefficients @ np.array([1.0, x0]))

    def half_width(self, combination: Array, degrees: Array, *, new_width: bool = False) -> float:
        """Return max(t·SE_residual, t·SE_within) of combination · (intercept, slope), or of a new width's value."""
        return max(two_sided(nu) * error for error, nu in self.errors(combination, degrees, new_width=new_width))

    def errors(self, combination: Array, degrees: Array, *, new_width: bool = False) -> tuple[tuple[float, float], ...]:
        """Return (standard error, degrees of freedom) from the seeds' noise and, with three widths, from residuals."""
        points = self._maps.T @ combination
        variances = points**2 * self.error**2
        satterthwaite = float(np.sum(variances) ** 2 / np.sum(variances**2 / degrees))
        within = float(np.sum(variances)) + (self._square if new_width else 0.0)
        from_seeds = (math.sqrt(within), satterthwaite)
        if self.free <= 0:
            return (from_seeds,)
        spread = float(combination @ self._covariance @ combination)
        if new_width:
            spread += self._square + float(np.mean(np.sort(self.error**2)[: self.free]))
        return from_seeds, (math.sqrt(self._scale * spread), float(self._counted))

    def error_of_lack_of_fit(self, combination: Array) -> float:
        """Return the standard error of combination · (intercept, slope) if τ were the only error of the widths."""
        return math.sqrt(self._square) * float(np.linalg.norm(self._maps.T @ combination))

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
