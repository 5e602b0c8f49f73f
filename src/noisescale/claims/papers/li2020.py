"""Li, Lyu, Arora 2020: with normalization and decay the intrinsic rate ηλ governs training.

η is the learning rate, λ the weight decay, w a scale-invariant weight tensor and g its gradient. ĝ is the gradient at
w/‖w‖, and S is the mean of ‖ĝ‖² over steps. The effective rate is η/‖w‖².
"""

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
        criterion="The 95% interval of the relative error lies below 1e-8. The 95% interval of |⟨g, w⟩|/(‖g‖‖w‖) lies "
        "below 1e-6.",
        source="derived",
        experiment=norm_recursion.recursion,
        minutes=0.1,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.2",
        statement="The change (w, η, λ) → (cw, c²η, λ/c²) leaves the outputs of the network the same.",
        statistic="Largest difference between the outputs over 50 steps",
        criterion="The 95% interval lies below 1e-6.",
        source="derived",
        experiment=norm_recursion.symmetry,
        minutes=0.1,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.3",
        statement="The norm converges to the value at which ‖w‖⁴ = ηS/(λ(2 − ηλ)).",
        statistic="Ratio of the measured ‖w‖⁴ to theory, for the pair (η, λ) at which the ratio is farthest from 1",
        criterion="The 95% interval lies within 1 ± 0.05.",
        source="derived",
        experiment=equilibrium.equilibrium_norm,
        minutes=1.0,
        differs=_DIFFERS,
        gpu_studies=(NETWORKS_WITH_DECAY,),
    ),
    _claim(
        id="C2.4",
        statement="At equilibrium, the effective rate, the rotation, the training loss and the accuracy depend only "
        "on ηλ.",
        statistic="Ratio of the rotation to √(2ηλ), for the pair (η, λ) at which the ratio is farthest from 1. "
        "Exponent of η in the effective rate at equal ηλ. Differences in training loss and in test accuracy between "
        "two rates at equal ηλ, for the ηλ whose difference is farthest from passing the test. Control: the "
        "difference between two values of ηλ.",
        criterion="The 95% interval of the ratio lies within 1 ± 0.05. The 95% interval of the exponent lies within 0 "
        "± 0.25. Losses and accuracies are equivalent within a quarter of the control. The 95% interval of the "
        "control excludes 0.",
        source="read",
        experiment=equilibrium.rotation_of_products,
        minutes=1.0,
        differs=_DIFFERS,
        gpu_studies=(NETWORKS_WITH_DECAY,),
    ),
    _claim(
        id="C2.5",
        statement="‖w‖⁴ relaxes to its equilibrium at the rate 4ηλ per step.",
        statistic="Ratio of the relaxation rate to 4ηλ, for the ηλ at which the ratio is farthest from 1. Slope of "
        "the log relaxation rate on log ηλ.",
        criterion="The 95% interval of the ratio lies within 1 ± 0.1. The 95% interval of the slope lies within 1 ± "
        "0.25.",
        source="derived",
        experiment=relaxation.relaxation_rate,
        minutes=0.6,
        differs=f"{_DIFFERS} Every image occurs with every label, so that there is nothing to learn and S is constant.",
    ),
    _claim(
        id="C2.6",
        statement="Runs with different histories of (η, λ) reach the same equilibrium once they share one (η, λ).",
        statistic="Ratio of the effective rates, and difference of the accuracies, between the history with the "
        "largest ηλ and the history with the smallest ηλ",
        criterion="Histories merge at the step from which they share one (η, λ). The ratio of the effective rates "
        "lies within 1 ± 0.05 after 4/(ηλ) further steps. The accuracies are then equivalent within a quarter of "
        "their difference at merging. The 95% interval of the difference at merging excludes 0.",
        source="read",
        experiment=histories.same_equilibrium,
        minutes=1.0,
        differs=f"{_DIFFERS} We also report MNIST-1D. The verdict does not depend on it. On development seeds, the "
        "histories on MNIST-1D still differed 4/(ηλ) steps after merging.",
        gpu_studies=(NETWORKS_AFTER_HISTORIES,),
    ),
    _claim(
        id="C2.7",
        statement="In function space, SGD mixes within O(1/(ηλ)) steps.",
        statistic="Slope of the log mixing time on log 1/(ηλ). Share of the distance between the functions of two "
        "histories that remains 1/(ηλ) steps after the histories merge.",
        criterion="The 95% interval of the slope lies within 1 ± 0.25. The 95% interval of the share lies below 0.25.",
        source="read",
        experiment=mixing_time.mixing_time,
        minutes=2.0,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.8",
        statement="In parameter space, SGD does not mix.",
        statistic="A direction is the weights of a network with each layer divided by its norm. Loss barrier between "
        "seeds minus the loss barrier within a trajectory. Growth of the squared distance between two directions of a "
        "trajectory from 3/(ηλ) to 10/(ηλ) steps apart. Gain in training loss from averaging two directions of a "
        "trajectory. Gain from averaging the directions of two seeds.",
        criterion="The 95% interval of the gain from averaging two seeds lies below 0. The 95% intervals of the three "
        "other statistics lie above 0.",
        source="read",
        experiment=parameter_space.no_mixing,
        minutes=0.5,
        differs=f"{_DIFFERS} We average two snapshots and judge the average by its training loss.",
    ),
    _claim(
        id="C2.9",
        statement="A small initial rate reaches the accuracy of a large rate if it trains for a time proportional to "
        "1/(ηλ).",
        statistic="Final test accuracy of the small rate after 10 times the steps minus final test accuracy of the "
        "large rate. Control: the difference at equal steps.",
        criterion="The accuracies are equivalent within a quarter of the difference at equal steps. The 95% interval "
        "of the difference at equal steps excludes 0.",
        source="read",
        experiment=initial_rates.small_initial_rate,
        minutes=1.5,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.10",
        statement="Full-batch gradient descent with weight decay never settles.",
        statistic="Number of spikes of the loss with decay minus the number without decay. Number of spikes before "
        "decay is switched off. Number of spikes after decay is switched off. Number of spikes of x²/(x² + y²) with "
        "decay minus the number without decay.",
        criterion="The 95% interval of the number of spikes after decay is switched off lies below 1. The 95% "
        "intervals of the three other statistics lie above 1.",
        source="read",
        experiment=full_batch.spikes_of_descent,
        minutes=1.0,
        differs="We train a small MLP on 200 digits. The paper trains a ResNet on 1,000 images.",
    ),
    _claim(
        id="C2.11",
        statement="Dividing η by k divides the effective rate by k at once, and half of this change in log rate is "
        "undone later. Dividing λ by k acts slowly. At equal S, the effective rate ends at 1/√k of its first value in "
        "both cases.",
        statistic="Effective rate after the cut relative to an uncut twin, in the first step and at the end. The "
        "effect of the cut on S is divided out.",
        criterion="All rates are effective rates relative to the uncut twin, whose S is S_twin. The 95% intervals of "
        "five statistics lie within 1 ± 0.05. Two are for the first step: k times the rate after the cut of η, and "
        "the rate after the cut of λ. Three are for the end: the ratio of the rates after the two cuts, and each of "
        "these rates times √(k·S/S_twin).",
        source="derived",
        experiment=cuts.cuts,
        minutes=1.0,
        differs=f"{_DIFFERS} The theory holds S fixed. We measure S and divide out its change. We also report the "
        "final rates without this correction. The verdict does not depend on them.",
    ),
    _claim(
        id="C2.12",
        statement="With momentum m, the equilibrium has ‖w‖⁴ = ηS/(λ(1 − m)(2 − ηλ/(1 + m))) and a rotation of "
        "√(2ηλ/(1 + m)) per step.",
        statistic="Ratio of the measured ‖w‖⁴ to theory. Ratio of the measured rotation to theory.",
        criterion="Both 95% intervals lie within 1 ± 0.05.",
        source="recalled",
        experiment=equilibrium.with_momentum,
        minutes=1.0,
        differs=f"{_DIFFERS} Nine of ten labels are redrawn at random, so that the gradients of successive steps are "
        "independent.",
    ),
)
