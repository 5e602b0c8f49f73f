"""Whether two settings agree at every one of several levels: the level farthest from that decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from noisescale.claims.criterion import Statistic, Values, above, below, over_seeds, same
from noisescale.laws.equivalence import MARGIN, SHARE

Pair = tuple[Statistic, Statistic]


def farthest_level(pairs: Sequence[Pair]) -> Pair:
    """Of equivalence tests at several levels, with their controls, the one farthest from passing.

    All levels pass where it does: an intersection of regions, which needs no correction for the number of tests.

    Source:
        Berger 1982 (Technometrics 24), the intersection-union test.
    """
    return max(pairs, key=lambda pair: (pair[0].p_value, pair[0].estimate.value))


def means_alike(name: str, levels: Sequence[str], differences: Values, control: Values) -> list[Pair]:
    """At each level whether a mean difference lies within max(½ point, a quarter of a control that all levels share).

    Not a control of each level's own: on both sides of an optimum the accuracy is the same, and nothing is detected.

    Arguments:
        levels: [M], names. differences: [S, M], seed by seed. control: [S].
    """
    return [same(f"{name} at {level}", own, control) for level, own in zip(levels, differences.T, strict=True)]


def curves_alike(name: str, difference: Values, control: Values) -> Pair:
    """Whether the mean square of a curve of differences is below the margin's, and whether the control's is above 0.

    Squares, so that differences of opposite signs do not cancel; without what the seeds' noise adds to them, so that
    more seeds do not make two settings more alike.

    Arguments:
        difference, control: [S, T], at T places of a curve, or at T levels.
    """
    of_control = mean_squares(control)
    shared = SHARE**2 * of_control
    margin = shared if shared.mean() > MARGIN**2 else np.full_like(shared, MARGIN**2)
    return (
        over_seeds(f"{name}: mean square − margin", mean_squares(difference) - margin, "1",
                   "of the accuracy's differences, unbiased; margin: ½ point, or a quarter of the control", below(0)),
        over_seeds(f"{name}: mean square of the control", of_control, "1", "of the accuracy's differences, unbiased",
                   above(0)),
    )  # fmt: skip


def mean_squares(differences: Values) -> Values:
    """Jackknife pseudo-values [S] of the unbiased mean square of mean differences [S, M]."""
    n = len(differences)

    def squared(own: Values) -> float:
        return float(np.mean(own.mean(0) ** 2 - own.var(0, ddof=1) / len(own)))

    whole = squared(differences)
    left = np.array([squared(np.delete(differences, seed, 0)) for seed in range(n)])
    found: Values = n * whole - (n - 1) * left
    return found
