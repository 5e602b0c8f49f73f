"""The power law that ties a measured quantity to width, with an honest slope and prediction intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput
from noisescale.laws.interval import Estimate, as_json, from_log, two_sided
from noisescale.laws.tobit import CensoredLine

Array = NDArray[np.float64]

# The jackknife over ten seeds can by chance come out near zero; 0.02 is 2 % of the rate, below any ladder's step.
ERROR_FLOOR = 0.02
MINIMUM_WIDTHS = 4


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
            extra = two_sided(len(self.widths) - 2) * self.lack_of_fit if new else 0.0
            low, high = value - math.hypot(value - low, extra), value + math.hypot(high - value, extra)
            return from_log(value, low, high, self.unit, self.convention)
        fit = _LeastSquares(np.log(self.widths), np.array(self.log_values), np.array(self.standard_errors))
        value = self.log_at(width)
        half = fit.half_width(fit.value_weights(x0), np.array(self.degrees), one_more=new)
        return from_log(value, value - half, value + half, self.unit, self.convention)

    def _line(self) -> CensoredLine:
        return CensoredLine(
            np.concatenate([np.log(self.widths), np.log(self.censored)]),
            np.concatenate([self.log_values, self.bounds]),
            np.concatenate([self.standard_errors, np.full(len(self.bounds), np.median(self.standard_errors))]),
            np.concatenate([np.zeros(len(self.widths)), self.directions]).astype(np.int64),
        )

    def as_json(self) -> dict[str, object]:
        """The JSON form."""
        result = as_json(self)
        assert isinstance(result, dict)
        return result


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

    Without censored widths: ordinary least squares, half-width max(t_{W-2}·SE_residual, t_ν·SE_within), ν by
    Satterthwaite. With censored widths: Tobit likelihood with a between-width variance and the profile likelihood
    ratio, its threshold calibrated to the t of W-2 degrees of freedom.

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
        BadInput: shapes that differ, or a value that is not finite.

    Source: Satterthwaite 1946; Tobin 1958; coverage in `benchmarks/coverage.py`.
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
    count = int(free.sum())
    status = "ok" if count >= MINIMUM_WIDTHS else "inconclusive"
    advice = (
        f"{count} widths, {int((~free).sum())} more as inequalities"
        if status == "ok"
        else f"{count} widths with a usable optimum; a law needs {MINIMUM_WIDTHS}: add widths, seeds or rungs"
    )
    nothing = Estimate(math.nan, math.nan, math.nan, "1", "no line")
    slope, centre_value, method, lack, residual = nothing, nothing, "none", math.nan, math.nan
    center = float(np.mean(np.log(w[free]))) if count else math.nan
    slope_text = f"exponent of width in {quantity}"
    if count >= 2 and np.ptp(w[free]) > 0:
        fit = _LeastSquares(np.log(w[free]), y[free], error)
        lack, residual, method = fit.lack_of_fit, fit.residual, "least_squares"
        half = fit.half_width(fit.slope_weights(), nu[free])
        slope = Estimate(fit.slope, fit.slope - half, fit.slope + half, "1", slope_text)
        half = fit.half_width(fit.value_weights(center), nu[free])
        centre_value = Estimate(fit.mean, fit.mean - half, fit.mean + half, f"log {unit}", convention)
    if count >= MINIMUM_WIDTHS and not free.all():
        every = np.full(w.shape, float(np.median(error)))
        every[free] = error
        line = CensoredLine(np.log(w), y, every, kind)
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


class _LeastSquares:
    """An ordinary least-squares line whose points carry standard errors of their own."""

    def __init__(self, x: Array, y: Array, error: Array) -> None:
        self.x, self.error, self.count = x, error, x.size
        self.center = float(x.mean())
        self.spread = float(np.sum((x - self.center) ** 2))
        self.mean = float(y.mean())
        self.slope = float(np.sum((x - self.center) * (y - self.mean))) / self.spread
        squares = float(np.sum((y - self.mean - self.slope * (x - self.center)) ** 2))
        leverage = 1 / self.count + (x - self.center) ** 2 / self.spread
        self.free = self.count - 2
        self.residual = math.sqrt(squares / self.free) if self.free > 0 else math.nan
        within = float(np.sum((1 - leverage) * error**2))
        self.lack_of_fit = math.sqrt(max(0.0, (squares - within) / self.free)) if self.free > 0 else math.nan

    def slope_weights(self) -> Array:
        """Weights of the points in the slope."""
        return (self.x - self.center) / self.spread

    def value_weights(self, x0: float) -> Array:
        """Weights of the points in the line's value at x0."""
        return 1 / self.count + (x0 - self.center) * self.slope_weights()

    def half_width(self, weights: Array, degrees: Array, *, one_more: bool = False) -> float:
        """max(t·SE_residual, t·SE_within) of a linear combination, for one more width's own value if asked."""
        variances = weights**2 * self.error**2
        satterthwaite = float(np.sum(variances) ** 2 / np.sum(variances**2 / degrees))
        within = float(np.sum(variances))
        spread = float(np.sum(weights**2))
        if one_more and self.free > 0:
            within += self.lack_of_fit**2
            spread += 1.0
        half = two_sided(satterthwaite) * math.sqrt(within)
        return half if self.free <= 0 else max(half, two_sided(self.free) * self.residual * math.sqrt(spread))
