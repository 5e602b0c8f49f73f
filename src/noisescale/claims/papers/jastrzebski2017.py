"""Jastrzębski et al. 2017: the ratio of learning rate to batch size decides which minimum SGD finds.

η is the learning rate, S the batch size, C the covariance of per-example gradients, H the Hessian of the training loss
and λ_max its largest eigenvalue.
"""

from __future__ import annotations

from functools import partial

from noisescale.claims.claim import Claim
from noisescale.claims.experiments import (
    batch_schedules,
    covariance_and_hessian,
    equal_noise,
    gibbs_law,
    lines_between_minima,
    memorization,
    more_noise,
    rescaling,
    sharpness,
    sharpness_cycles,
    stationary_loss,
)

_DIFFERS = "We train MLPs with one hidden layer on MNIST-1D. The paper trains ResNet-56 and VGG-11 on CIFAR-10."
_claim = partial(Claim, paper="jastrzebski2017")

CLAIMS = (
    _claim(
        id="C4.1",
        statement="Training curves with equal η/S coincide.",
        statistic="Mean square distance between the training curves of η = 1 and η = 4, for the η/S whose distance is "
        "farthest from passing the test. Control: the mean square distance between the curves of two values of η/S at "
        "one rate.",
        criterion="At each of four values of η/S, the 95% interval of the mean square distance lies below the square "
        "of max(½ point, a quarter of the root of the control). The 95% interval of the control lies above 0.",
        source="read",
        experiment=equal_noise.curves_coincide,
        minutes=8.5,
        differs=f"{_DIFFERS} Both rates lie below the mean over seeds of 2/λ_max at initialization. Earlier rounds "
        "used rates 2 and 8 in the criterion.",
        disputed="It is disputed whether the three factors (learning rate, batch size and variance of the gradients) "
        "suffice. Luo and Wang find that the relation may fail unless the covariance C of the gradients is "
        "proportional to the Hessian H.",
    ),
    _claim(
        id="C4.2",
        statement="The largest factor β for which training with (βη, βS) equals training with (η, S) is proportional "
        "to 1/(ηλ).",
        statistic="Slope of log β_max on log 1/(ηλ_ref), across widths. β_max is the β at which the training loss "
        "first differs from the loss at β = 1 by a quarter of the change that four times the noise causes. λ_ref is "
        "λ_max at β = 1.",
        criterion="The 95% interval lies within 1 ± 0.25.",
        source="derived",
        experiment=rescaling.largest_factor,
        minutes=4.0,
        differs="We sharpen the statement and test only its dependence on 1/(ηλ). We do not test its dependence on "
        "the size N of the training set, because N is confounded with the number of steps. We draw examples with "
        "replacement, so that N has no effect. We vary λ through the width of a small MLP with squared error. Warm-up "
        "keeps the first steps from determining the result. A first version had 16 seeds and computed β_max for each "
        "of them. It was inconclusive on confirming seeds, with a slope of 0.71 [0.51, 0.92].",
    ),
    _claim(
        id="C4.3",
        statement="Higher η/S leads to flatter minima.",
        statistic="Change of log λ_max per doubling of η/S within a seed. The change comes from a regression that "
        "includes a cubic in log training loss and log time.",
        criterion="The 95% interval lies below 0.",
        source="read",
        experiment=sharpness.flatter_minima,
        minutes=2.0,
        differs="We train a small MLP on MNIST-1D with squared error, so that the curvature does not vanish with the "
        "loss. Only the batch varies. We also report cross-entropy, runs in which the rate varies, tr H instead of "
        "λ_max, and a test whether η and S have an effect beyond η/S. The verdict does not depend on these numbers.",
        gpu_studies=(sharpness.CURVATURE_OVER_BATCHES,),
    ),
    _claim(
        id="C4.4",
        statement="Higher η/S leads to better test accuracy, up to an optimum.",
        statistic="Slope of accuracy on log₂(η/S) below the optimum, at equal epochs and at equal η·steps",
        criterion="Both 95% intervals lie above 0.",
        source="read",
        experiment=more_noise.more_noise_helps,
        minutes=5.0,
        differs=_DIFFERS,
    ),
    _claim(
        id="C4.5",
        statement="The stationary excess loss is (η/4S)·Tr C, with a correction for steps of finite size.",
        statistic="Ratio of the simulated loss to the exact loss, for the η at which the ratio is farthest from 1. "
        "Ratio of the simulated loss to (η/4S)·Tr C, at small η.",
        criterion="The 95% interval of the first ratio lies within 1 ± 0.01. The 95% interval of the second ratio "
        "lies within 1 ± 0.05.",
        source="derived",
        experiment=stationary_loss.excess,
        minutes=1.5,
        differs="We simulate SGD on a quadratic loss, with noise whose covariance is known. This is the setting of "
        "the statement.",
    ),
    _claim(
        id="C4.6",
        statement="Near minima, the covariance C of per-example gradients is aligned with the Hessian H.",
        statistic="Cosine of C and H in the Frobenius inner product, at three training losses",
        criterion="All 95% intervals lie above ½.",
        source="recalled",
        experiment=covariance_and_hessian.alignment,
        minutes=1.0,
        differs="The network has about 1,200 parameters, so that we can compute both matrices exactly. The criterion "
        "compares directions, not sizes. C ≈ H would also require tr C/tr H near 1. We report this ratio, and the "
        "slope of log vᵀCv on log vᵀHv over eigenvectors v of H.",
    ),
    _claim(
        id="C4.7",
        statement="A schedule of the batch size can replace a schedule of the learning rate.",
        statistic="Difference in accuracy between a schedule of the batch and the same schedule of the rate, seed by "
        "seed. Control: the difference between no schedule and the schedule of the rate.",
        criterion="For each of two schedules, the accuracies are equivalent within max(½ point, a quarter of the "
        "control). The 95% interval of each control excludes 0.",
        source="read",
        experiment=batch_schedules.replaces_the_rate,
        minutes=2.0,
        differs=f"{_DIFFERS} We also report whole training curves. The verdict does not depend on them. A schedule of "
        "the batch has the same ε·steps as the schedule of the rate. The control without a schedule has more ε·steps. "
        "With 20 seeds instead of 40, one of the two schedules was inconclusive on confirming seeds.",
        gpu_studies=(batch_schedules.BATCH_SCHEDULES,),
    ),
    _claim(
        id="C4.8",
        statement="At equal memorization of random labels, higher η/S generalizes better.",
        statistic="Coefficient of log(η/S) in a regression of clean test accuracy that includes memorized accuracy "
        "and its square. One regression uses the runs along training, the other uses their ends.",
        criterion="Both 95% intervals lie above 0.",
        source="read",
        experiment=memorization.memorization,
        minutes=2.0,
        differs="We train on 1,000 examples of MNIST-1D. At the end, most runs have memorized all labels. We also "
        "report runs with momentum at equal η/(S(1 − m)). The verdict does not depend on them. We compare at equal "
        "epochs, so that noisier runs have had more η·steps. The regression includes memorized accuracy in place of "
        "time.",
    ),
    _claim(
        id="C4.9",
        statement="Cycles of η/S modulate the sharpness λ_max.",
        statistic="log λ_max at the end of half-cycles with high η/S minus log λ_max at the end of half-cycles with "
        "low η/S, after removal of a drift",
        criterion="The 95% interval lies below 0.",
        source="read",
        experiment=sharpness_cycles.cycles,
        minutes=1.5,
        differs="We train a small MLP on MNIST-1D with squared error and cycles of the batch. We also report cycles "
        "of the rate, and cross-entropy. The verdict does not depend on them.",
    ),
    _claim(
        id="C4.10",
        statement="On the line through two minima, the loss stays low over a wider range around the minimum with the "
        "higher η/S.",
        statistic="Log of the width beyond the minimum with the higher η/S, divided by the width beyond the minimum "
        "with the lower η/S",
        criterion="The 95% interval lies above 0.",
        source="read",
        experiment=lines_between_minima.widths,
        minutes=1.0,
        differs="We train a small MLP on MNIST-1D with squared error, with two values of S at one η. The width is the "
        "distance beyond a minimum at which the loss reaches twice the loss of the lower minimum.",
    ),
    _claim(
        id="C4.11",
        statement="With isotropic noise, SGD visits the wells of the loss as the Gibbs law e^(−L/n) predicts, where n "
        "= σ²η/(2S).",
        statistic="Log odds of two wells in simulation minus the log odds of the law, for the n at which the "
        "difference is largest. Ratio of the simulated slope in 1/n to the slope of the law.",
        criterion="The 95% interval of the difference lies within 0 ± 0.1 nats. The 95% interval of the ratio lies "
        "within 1 ± 0.1.",
        source="read",
        experiment=gibbs_law.gibbs,
        minutes=4.0,
        differs="We simulate two wells in one dimension. This is the setting of the statement.",
    ),
)
