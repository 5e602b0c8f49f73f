"""What the curves of other widths say about the shape of a curve.

Curves of one study have similar shapes: the slopes beside the optimum, the radius of its tip and the kind of shape
change slowly with width. So the shapes of the other widths give a prior for a width's shape. It never uses the width
itself, and it is never sharper than the spread of shapes between widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.laws.curve_shapes import FAMILIES, Variants

Array = NDArray[np.float64]

# Spread of a shape's log parameters between widths. In the quickstart's study the slopes change by a factor of two
# between its widths 48 and 128.
_BETWEEN_WIDTHS = 0.5
# Share of the prior that ignores the other widths, so that a width whose shape differs can say so.
_INDEPENDENT = 0.15
# Weight of another width's evidence about the family and variant.
_TRUST = 0.2


@dataclass(frozen=True, eq=False)
class ShapeMoments:
    """What a curve's posterior says about the parameters of a family.

    Args:
        weights: Probability of each variant of the family, shape [variants].
        mean: Mean of the parameters, amplitudes as shares of the span, shape [P].
        variance: Variance of the parameters, shape [P].
    """

    weights: Array
    mean: Array
    variance: Array


@dataclass(frozen=True)
class ShapePrior:
    """A prior of shapes.

    Args:
        moments: For each curve of another width, the moments of each family.
    """

    moments: tuple[tuple[ShapeMoments, ...], ...] = ()

    def log_weights(self, index: int) -> Array:
        """Return the log prior probabilities of the variants of a family.

        Args:
            index: Position of the family in `FAMILIES`.
        """
        weights = [np.exp(family.log_weights) for family in FAMILIES]
        if not self.moments:
            return np.log(weights[index])
        prior = np.concatenate(weights)
        ratios = [np.concatenate([part.weights for part in curve]) / prior for curve in self.moments]
        learned = prior * np.exp(_TRUST * np.sum(np.log(np.maximum(ratios, 1e-3)), axis=0))
        mixed = (1 - _INDEPENDENT) * learned / learned.sum() + _INDEPENDENT * prior / prior.sum()
        ends = np.cumsum([0, *(part.size for part in weights)])
        return np.asarray(np.log(mixed[ends[index] : ends[index + 1]]))

    def parameters(self, index: int, variant: Variants, span: float) -> tuple[Array, Array]:
        """Return the prior means and standard deviations of a family's parameters.

        Args:
            index: Position of the family in `FAMILIES`.
            variant: Variant of each curve, shape [G].
            span: Span of the metric.

        Returns:
            Means and standard deviations, each of shape [G, P].
        """
        family = FAMILIES[index]
        means, spreads = family.prior(variant, span)
        if not self.moments:
            return means, spreads
        scale = np.log(span) * np.array(family.amplitudes)
        precision, pull = spreads**-2.0, (means - scale) / spreads**2
        # The moments of a family do not tell its variants apart, so they are compared with the prior of the first.
        first_mean, first_spread = (values[0] for values in family.prior(np.zeros(1, dtype=np.intp), 1.0))
        for curve in self.moments:
            part = curve[index]
            share = float(part.weights.sum())
            information = share * np.maximum(1 / part.variance - first_spread**-2.0, 0.0)
            message = (part.mean / part.variance - first_mean / first_spread**2) / np.maximum(
                1 / part.variance - first_spread**-2.0, 1e-9
            )
            effective = information / (1 + information * _BETWEEN_WIDTHS**2)
            precision = precision + effective
            pull = pull + effective * message
        return pull / precision + scale, np.sqrt(1 / precision + _BETWEEN_WIDTHS**2 * (precision > spreads**-2.0))


def prior_of_others(moments: Sequence[tuple[ShapeMoments, ...] | None], width: int) -> ShapePrior:
    """Return the prior that the other widths give.

    Args:
        moments: Moments of each width's curve; None without a curve.
        width: Position of the width that is left out.
    """
    return ShapePrior(tuple(part for k, part in enumerate(moments) if k != width and part is not None))
