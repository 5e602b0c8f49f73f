"""Equivalence tests of two settings, with a margin that comes from a control."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from noisescale.claims.criterion import above, below, different_from
from noisescale.claims.panel import Floats
from noisescale.claims.statistic import Statistic, over_seeds
from noisescale.laws import MARGIN, SHARE

Pair = tuple[Statistic, Statistic]


def equivalence(name: str, difference: Floats, control: Floats, unit: str = "fraction") -> Pair:
    """Test whether two settings agree within max(½ point, a quarter of a control), and whether the control is detected.

    Args:
        name: Name of the comparison.
        difference: Difference of the two settings by seed, shape [S].
        control: Difference between one of the settings and a third setting by seed, shape [S]. The control is detected
            if its mean differs from 0.
        unit: Unit of the differences.

    Returns:
        The one-sided test of equivalence with the larger p-value, and the test of the control.

    Source:
        Schuirmann 1987, for the two one-sided tests; `docs/verdicts.md`, for the margins.
    """
    differences, controls = np.asarray(difference, dtype=np.float64), np.asarray(control, dtype=np.float64)
    effect = controls if controls.mean() >= 0 else -controls
    margin = SHARE * effect if SHARE * effect.mean() > MARGIN else np.full_like(differences, MARGIN)
    convention = "paired difference, from the one-sided test with the larger p-value"
    one_sided_tests = [
        over_seeds(f"{name}: |difference| − margin", sign * differences - margin, unit, convention, below(0))
        for sign in (1.0, -1.0)
    ]
    return (
        max(one_sided_tests, key=lambda test: test.p_value),
        over_seeds(f"{name}: control", controls, unit, "paired difference of the control", different_from(0)),
    )


def worst_level(pairs: Sequence[Pair]) -> Pair:
    """Return the equivalence test that is farthest from passing, with its control.

    If this test passes, the tests of all levels pass. No correction for the number of tests is needed, because all
    tests must pass.

    Args:
        pairs: Equivalence tests with their controls, one per level.

    Source:
        Berger 1982 (Technometrics 24), the intersection-union test.
    """
    return max(pairs, key=lambda pair: (pair[0].p_value, pair[0].estimate.value))


def equivalent_means(name: str, levels: Sequence[str], differences: Floats, control: Floats) -> list[Pair]:
    """Test at each level whether a mean difference lies within max(½ point, a quarter of a control).

    All levels share one control, a change from one level to another. A control for each level would fail near an
    optimum, where such a change leads from one side of the optimum to the other, at equal accuracy.

    Args:
        name: Name of the comparison.
        levels: Names of the levels, such as values of ε/B, length M.
        differences: Differences by seed and level, shape [S, M].
        control: Difference of the control by seed, shape [S].
    """
    return [
        equivalence(f"{name} at {level}", difference, control)
        for level, difference in zip(levels, differences.T, strict=True)
    ]


def equivalent_curves(name: str, difference: Floats, control: Floats) -> Pair:
    """Test whether the mean square difference of two curves lies below the square of the margin.

    In a mean square, differences of opposite signs do not cancel. The estimate is unbiased: noise between seeds does
    not increase it, and its expectation does not depend on the number of seeds.

    Args:
        name: Name of the comparison.
        difference: Difference of the curves by seed and position, shape [S, T].
        control: Difference of the control by seed and position, shape [S, T].

    Returns:
        The test of the mean square, and the test that the control's mean square lies above 0.
    """
    control_squares = mean_squares(control)
    share = SHARE**2 * control_squares
    margin = share if share.mean() > MARGIN**2 else np.full_like(share, MARGIN**2)
    convention = "unbiased mean square of the differences in accuracy"
    return (
        over_seeds(f"{name}: mean square − margin", mean_squares(difference) - margin, "1",
                   f"{convention}; margin: ½ point, or a quarter of the control", below(0)),
        over_seeds(f"{name}: mean square of the control", control_squares, "1", convention, above(0)),
    )  # fmt: skip


def mean_squares(differences: Floats) -> Floats:
    """Estimate the square of the mean difference over seeds, averaged over positions, without bias.

    The values by seed are jackknife pseudo-values: their mean over seeds is the estimate.

    Args:
        differences: Differences by seed and position, shape [S, M].

    Returns:
        Pseudo-values, shape [S].
    """
    seeds = len(differences)

    def unbiased_square(sample: Floats) -> float:
        return float(np.mean(sample.mean(0) ** 2 - sample.var(0, ddof=1) / len(sample)))

    leave_one_out = np.array([unbiased_square(np.delete(differences, seed, 0)) for seed in range(seeds)])
    pseudo_values: Floats = seeds * unbiased_square(differences) - (seeds - 1) * leave_one_out
    return pseudo_values
