"""Li, Lyu, Arora 2020: with normalization and decay the intrinsic rate ηλ governs training."""

from __future__ import annotations

from functools import partial

from noisescale.claims.claim import Claim
from noisescale.claims.experiments import (
    cuts,
    equilibrium,
    full_batch,
    histories,
    initial_rates,
    mixing_time,
    norm_recursion,
    parameter_space,
    relaxation,
)
from noisescale.claims.studies.scale_invariant import NETWORKS_AFTER_HISTORIES, NETWORKS_WITH_DECAY

_DIFFERS = "We train a small MLP on digits with independent batches. The paper trains PreResNet-32 on CIFAR-10."
_claim = partial(Claim, paper="li2020")

CLAIMS = (
    _claim(
        id="C2.1",
        statement="‖w‖² of a scale-invariant weight follows (1 − ηλ)²‖w‖² + η²‖ĝ‖²/‖w‖² exactly.",
        statistic="Largest relative error of the recursion in one step. Largest |⟨g, w⟩|/(‖g‖‖w‖).",
        criterion="The 95% interval of the error lies below 1e-8, and that of |⟨g, w⟩|/(‖g‖‖w‖) below 1e-6.",
        source="derived",
        experiment=norm_recursion.recursion,
        minutes=0.1,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.2",
        statement="(w, η, λ) → (cw, c²η, λ/c²) leaves the network's outputs unchanged.",
        statistic="Largest difference between the outputs over 50 steps",
        criterion="The 95% interval lies below 1e-6.",
        source="derived",
        experiment=norm_recursion.symmetry,
        minutes=0.1,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.3",
        statement="The norm settles where ‖w‖⁴ = ηS/(λ(2 − ηλ)).",
        statistic="Ratio of the measured ‖w‖⁴ to theory, for the pair (η, λ) that deviates most",
        criterion="The 95% interval lies within 1 ± 0.05.",
        source="derived",
        experiment=equilibrium.equilibrium_norm,
        minutes=1.0,
        differs=_DIFFERS,
        gpu_studies=(NETWORKS_WITH_DECAY,),
    ),
    _claim(
        id="C2.4",
        statement="Effective rate, rotation, training loss and accuracy at equilibrium depend on ηλ only.",
        statistic="Ratio of the rotation to √(2ηλ), for the pair (η, λ) that deviates most. Exponent of η in the "
        "effective rate at equal ηλ. Differences in training loss and in test accuracy between two rates at equal ηλ, "
        "for the ηλ that deviates most. Control: the difference between two values of ηλ.",
        criterion="The 95% interval of the ratio lies within 1 ± 0.05, and that of the exponent within 0 ± 0.25. "
        "Losses and accuracies are equivalent within a quarter of the control, which is detected.",
        source="read",
        experiment=equilibrium.rotation_of_products,
        minutes=1.0,
        differs=_DIFFERS,
        gpu_studies=(NETWORKS_WITH_DECAY,),
    ),
    _claim(
        id="C2.5",
        statement="‖w‖⁴ relaxes at the rate 4ηλ.",
        statistic="Ratio of the relaxation rate to 4ηλ, for the ηλ that deviates most. Slope of log rate on log ηλ.",
        criterion="The 95% interval of the ratio lies within 1 ± 0.1, and that of the slope within 1 ± 0.25.",
        source="derived",
        experiment=relaxation.relaxation_rate,
        minutes=0.6,
        differs=f"{_DIFFERS} Every image occurs under every label, so that there is nothing to learn and S is "
        "constant.",
    ),
    _claim(
        id="C2.6",
        statement="After different histories the same (η, λ) leads to the same equilibrium.",
        statistic="Ratio of the effective rates, and difference of the accuracies, after the histories with the "
        "largest and the smallest ηλ",
        criterion="At 4/(ηλ) after merging, the ratio of the effective rates lies within 1 ± 0.05. The accuracies are "
        "equivalent within a quarter of their difference at merging, which is detected.",
        source="read",
        experiment=histories.same_equilibrium,
        minutes=1.0,
        differs=f"{_DIFFERS} We also report MNIST-1D. The verdict does not depend on it. On development seeds, the "
        "histories on MNIST-1D had not come together at 4/(ηλ) after merging.",
        gpu_studies=(NETWORKS_AFTER_HISTORIES,),
    ),
    _claim(
        id="C2.7",
        statement="In function space SGD mixes in O(1/(ηλ)) steps.",
        statistic="Slope of log mixing time on log 1/(ηλ). Share of the distance between functions at merging that "
        "remains after 1/(ηλ) steps.",
        criterion="The 95% interval of the slope lies within 1 ± 0.25, and that of the share below 0.25.",
        source="read",
        experiment=mixing_time.mixing_time,
        minutes=2.0,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.8",
        statement="In parameter space SGD does not mix.",
        statistic="Barrier of the loss between seeds minus the barrier within a trajectory. Growth of the distance "
        "between directions from 3/(ηλ) to 10/(ηλ) steps. Gain in training loss from averaging two directions of a "
        "trajectory. Gain from averaging the directions of two seeds.",
        criterion="The 95% interval of the gain across seeds lies below 0. The other 95% intervals lie above 0.",
        source="read",
        experiment=parameter_space.no_mixing,
        minutes=0.5,
        differs=f"{_DIFFERS} We average two snapshots and judge the average by its training loss.",
    ),
    _claim(
        id="C2.9",
        statement="A small initial rate matches a large rate, given time in proportion to 1/(ηλ).",
        statistic="Final test accuracy of the small rate after 10 times the steps minus that of the large rate. "
        "Control: the difference at equal steps.",
        criterion="The accuracies are equivalent within a quarter of the difference at equal steps, which is detected.",
        source="read",
        experiment=initial_rates.small_initial_rate,
        minutes=1.5,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.10",
        statement="Full-batch descent with decay never settles.",
        statistic="Number of spikes of the loss with decay and without, before and after decay is switched off. Number "
        "of spikes of x²/(x² + y²) with decay and without.",
        criterion="95% intervals: at least 1 spike more with decay than without, and below 1 spike after decay is "
        "switched off.",
        source="read",
        experiment=full_batch.spikes_of_descent,
        minutes=1.0,
        differs="We train a small MLP on 200 digits. The paper trains a ResNet on 1,000 images.",
    ),
    _claim(
        id="C2.11",
        statement="A cut of η by k acts at once and is half undone. A cut of λ by k acts slowly. At equal S both end "
        "at 1/√k.",
        statistic="Effective rate after the cut relative to an uncut twin, in the first step and at the end. The "
        "effect of the cut on S is divided out.",
        criterion="All 95% intervals lie within 1 ± 0.05: those of k times the effective rate in the first step after "
        "the cut of η, of the effective rate in the first step after the cut of λ, of the ratio of the two final "
        "rates, and of each final rate times √(k·S/S_twin). Rates are relative to the uncut twin, whose S is S_twin.",
        source="derived",
        experiment=cuts.cuts,
        minutes=1.0,
        differs=f"{_DIFFERS} The theory holds S fixed. We measure S and divide out its change. We also report the "
        "final rates without this correction. The verdict does not depend on them.",
    ),
    _claim(
        id="C2.12",
        statement="With momentum m: ‖w‖⁴ = ηS/(λ(1 − m)(2 − ηλ/(1 + m))), rotation √(2ηλ/(1 + m)).",
        statistic="Ratios of the measured ‖w‖⁴ and of the measured rotation to theory",
        criterion="Both 95% intervals lie within 1 ± 0.05.",
        source="recalled",
        experiment=equilibrium.with_momentum,
        minutes=1.0,
        differs=f"{_DIFFERS} Nine of ten labels are redrawn, so that the gradients are independent.",
    ),
)
