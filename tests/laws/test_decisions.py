from __future__ import annotations

import math

import numpy as np

from noisescale.laws.decisions import outlook
from noisescale.laws.optimum import optimum
from noisescale.laws.place_laws import PlaceLaw, place_law
from noisescale.laws.shape_priors import ShapePrior, prior_of_others

STEP = math.log(math.sqrt(2))
X = np.arange(16) * STEP
WIDTHS = (32, 48, 64, 96, 128)


def studied(low: float, high: float, deviation: float = 0.01) -> tuple[PlaceLaw, ShapePrior]:
    """Fit tents with the slopes `low` and `high` whose tips lie on a power law with exponent 1."""
    generator = np.random.default_rng(1)
    curves = []
    for width in WIDTHS:
        z = X - X[8] - math.log(width / 64)
        y = 0.6 + np.where(z < 0, low * z, -high * z) + deviation * generator.standard_normal((6, X.size))
        curves.append(optimum(X, y, constant=0.1))
    densities = [curve.likelihood for curve in curves if curve.likelihood is not None]
    law = place_law({"width": np.log(WIDTHS)}, densities)
    return law, prior_of_others([curve.shape for curve in curves], -1)


def test_the_decision_leans_away_from_the_steeper_side() -> None:
    truth = X[8] + math.log(4)
    for (low, high), side in (((0.04, 0.3), -1), ((0.3, 0.04), 1)):
        law, shapes = studied(low, high)
        median = float(law.predicted({"width": math.log(256)})[0])
        decision = outlook(law, shapes, 0.5, 256).decide()
        assert side * (decision.place - median) > 0.02
        assert abs(decision.place - truth) < 0.4
        assert 0 < decision.regret < decision.regret_high < 0.3


def test_the_expected_regret_falls_with_less_noise() -> None:
    vague, precise = (outlook(*studied(0.05, 0.1, deviation), 0.5, 256).decide() for deviation in (0.02, 0.002))
    assert precise.regret < vague.regret


def test_the_drop_is_zero_at_the_optimum_and_at_most_the_span() -> None:
    view = outlook(*studied(0.05, 0.1), 0.5, 256)
    drops = view.drop(np.linspace(-30, 30, 7))
    assert drops.min() >= 0 and drops.max() <= 0.5
    assert np.all(np.diag(view.drop(view.places[:50]))[:50] < 1e-9)
