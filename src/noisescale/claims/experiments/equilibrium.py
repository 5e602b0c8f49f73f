"""The equilibrium of scale-invariant networks with decay: norm, effective rate and rotation."""

from __future__ import annotations

import numpy as np

from noisescale.claims.criterion import within
from noisescale.claims.equivalence_tests import Pair, equivalence, worst_level
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.equilibrium_runs import (
    by_pair,
    equilibrium_runs,
    norms_over_theory,
    settling_time,
    slowest,
    window,
)
from noisescale.claims.experiments.scale_invariant_pack import NETWORK, ScaleInvariantPack, in_words
from noisescale.claims.panel import Curve, Floats, Panel, mean_with_deviations
from noisescale.claims.statistic import farthest_from, over_seeds
from noisescale.theory import equilibrium

# Margins of `docs/verdicts.md`: 5% at equilibrium, a quarter for slopes.
_WITHIN_5_PERCENT, _NO_SLOPE = within(1, 0.05), within(0, 0.25)
_SEEDS_WITH_MOMENTUM = {"smoke": 16, "laptop": 20}
_MOMENTUM, _PAIRS_WITH_MOMENTUM = 0.9, ((0.05, 0.02), (0.02, 0.05))
# The law with momentum holds if the gradients of successive steps are independent. With true labels, successive
# gradients are correlated, and the ratio of measurement to theory was 0.85 on development seeds.
_LABEL_NOISE = 0.9
_PRODUCT_LABEL = "intrinsic learning rate ηλ"


def equilibrium_norm(request: Request) -> Evidence:
    """C2.3: ‖w‖⁴ = ηS/(λ(2 − ηλ)) at equilibrium, with the measured S."""
    runs = equilibrium_runs(request)
    pairs = runs.pairs
    # In the null experiment, the theory uses the rate and decay of another pair.
    ratios = norms_over_theory(runs.trace, (*pairs[-1:], *pairs[:-1]) if request.null else pairs)
    products = np.array([rate * decay for rate, decay in pairs])
    order = np.argsort(products)
    curves = (
        mean_with_deviations("measured", products[order], ratios[order]),
        Curve("1", products[order][[0, -1]], np.ones(2), kind="theory"),
    )
    return Evidence(
        statistics=(
            over_seeds("ratio of ‖w‖⁴ to theory", farthest_from(1.0, ratios), "1",
                       "mean over layers, for the pair (η, λ) that deviates most", _WITHIN_5_PERCENT),
        ),
        panels=(Panel(_PRODUCT_LABEL, "‖w‖⁴ / (ηS/(λ(2 − ηλ)))", curves, log_x=True),),
        runs=len(pairs) * runs.seeds,
        setting=runs.setting,
        provenance=runs.provenance,
    )  # fmt: skip


def rotation_of_products(request: Request) -> Evidence:
    """C2.4: effective rate, rotation, training loss and test accuracy at equilibrium depend only on ηλ."""
    runs = equilibrium_runs(request)
    pairs, trace = runs.pairs, runs.trace
    rates, decays = np.array(pairs).T
    products = rates * decays
    training_loss, test_accuracy = (by_pair(values, pairs) for values in (runs.training_loss, runs.test_accuracy))
    rotation = by_pair(np.sqrt((trace.rotations**2).mean(0)).mean(1), pairs)
    rate_of_run = np.repeat(rates, runs.seeds)
    effective_rates = by_pair((rate_of_run[:, None] / trace.squares.mean(0)).mean(1), pairs)
    if request.null:  # in the null experiment, every pair has the product ηλ of another pair
        products = np.roll(products, 1)
    ratios = rotation / np.array([[_rotation(product)] for product in products])
    # Regress the log effective rate on log ηλ and log η over the pairs, one regression per seed.
    design = np.stack([np.ones(len(pairs)), np.log(products), np.log(rates)], 1)
    exponents = np.linalg.lstsq(design, np.log(effective_rates), rcond=None)[0]
    theory = np.array([_rotation(product) for product in np.sort(products)])
    rotation_panel = Panel(
        _PRODUCT_LABEL, "rotation per step, radians",
        (*_by_rate(rotation, products, rates), Curve("√(2ηλ)", np.sort(products), theory, kind="theory")),
        log_x=True, log_y=True,
    )  # fmt: skip
    return Evidence(
        statistics=(
            over_seeds("ratio of rotation to √(2ηλ)", farthest_from(1.0, ratios), "1",
                       "root mean square angle per step, for the pair (η, λ) that deviates most", _WITHIN_5_PERCENT),
            over_seeds("exponent of η", exponents[2], "1",
                       "exponent of η in η/‖w‖² at equal ηλ; 0 if only ηλ matters", _NO_SLOPE),
            *_at_equal_products("training loss", training_loss, products, "nats"),
            *_at_equal_products("test accuracy", test_accuracy, products, "fraction"),
        ),
        panels=(
            rotation_panel,
            Panel(_PRODUCT_LABEL, "training loss, nats", _by_rate(training_loss, products, rates), log_x=True),
            Panel(_PRODUCT_LABEL, "test accuracy", _by_rate(test_accuracy, products, rates), log_x=True),
        ),
        runs=len(pairs) * runs.seeds,
        setting=runs.setting,
        reported={"exponent of ηλ": float(exponents[1].mean())},
        provenance=runs.provenance,
    )  # fmt: skip


def with_momentum(request: Request) -> Evidence:
    """C2.12: with heavy-ball momentum m, ‖w‖⁴ = ηS/(λ(1 − m)(2 − ηλ/(1 + m))) and the rotation is √(2ηλ/(1 + m))."""
    pairs, seeds = _PAIRS_WITH_MOMENTUM, request.seeds(_SEEDS_WITH_MOMENTUM)
    theory_momentum = 0.0 if request.null else _MOMENTUM  # the null experiment uses the law without momentum
    pack = ScaleInvariantPack(pairs, seeds, momentum=_MOMENTUM, label_noise=_LABEL_NOISE)
    pack.train(settling_time(slowest(pairs, 1 - _MOMENTUM)))
    trace = pack.record(window(pairs, 1 - _MOMENTUM))
    norm_ratio = farthest_from(1.0, norms_over_theory(trace, pairs, theory_momentum))
    products = [rate * decay for rate, decay in pairs]
    theory = np.repeat([_rotation(product, theory_momentum) for product in products], len(seeds))[:, None]
    rotation = np.sqrt((trace.rotations**2).mean(0)) / theory
    rotation_ratio = farthest_from(1.0, by_pair(rotation.mean(1), pairs))
    seed_numbers = np.arange(len(seeds), dtype=float)
    curves = (
        Curve("‖w‖⁴", seed_numbers, norm_ratio),
        Curve("rotation", seed_numbers, rotation_ratio),
        Curve("1", seed_numbers[[0, -1]], np.ones(2), kind="theory"),
    )
    convention = "mean over layers, for the pair (η, λ) that deviates most"
    return Evidence(
        statistics=(
            over_seeds("ratio of ‖w‖⁴ to theory", norm_ratio, "1", convention, _WITHIN_5_PERCENT),
            over_seeds("ratio of rotation to theory", rotation_ratio, "1", convention, _WITHIN_5_PERCENT),
        ),
        panels=(Panel("seed, counted from 0", "measured / theory", curves, whole_x=True),),
        runs=len(pairs) * len(seeds),
        setting=f"{NETWORK}; (η, λ) = {in_words(pairs)}; m = {_MOMENTUM:g}; nine of ten labels redrawn at random",
        reported={"ηλ": float(np.mean(products))},
    )


def _at_equal_products(name: str, values: Floats, products: Floats, unit: str) -> Pair:
    """Test whether a metric [P, S] is the same for both rates of each ηλ. The control compares the two largest ηλ."""
    indices_at_products = [np.flatnonzero(np.isclose(products, product)) for product in np.unique(products.round(12))]
    control = values[indices_at_products[-1]].mean(0) - values[indices_at_products[-2]].mean(0)
    return worst_level(
        [
            equivalence(f"{name} at ηλ = {products[indices[0]]:g}, two rates",
                        values[indices[0]] - values[indices[1]], control, unit)
            for indices in indices_at_products
            if len(indices) > 1
        ]
    )  # fmt: skip


def _by_rate(values: Floats, products: Floats, rates: Floats) -> tuple[Curve, ...]:
    return tuple(
        mean_with_deviations(f"η = {rate:g}", products[rates == rate], values[rates == rate])
        for rate in sorted(set(rates))
    )


def _rotation(product: float, momentum: float = 0.0) -> float:
    """Return the theoretical rotation per step. It depends on η and λ only through ηλ, and not on S."""
    return equilibrium(1.0, product, 1.0, momentum).rotation
