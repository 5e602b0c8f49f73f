"""Jastrzębski et al. 2017: learning rate over batch size decides which minimum SGD finds."""

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

_DIFFERS = "one hidden layer on MNIST-1D, where the paper has ResNet-56 and VGG-11 on CIFAR-10"
_claim = partial(Claim, paper="jastrzebski2017")

CLAIMS = (
    _claim(
        id="C4.1",
        statement="Training curves at equal η/S coincide.",
        statistic="mean square distance of curves at η = 1 and 4, of the η/S farthest off; control: another η/S",
        criterion="at each of four η/S 95% interval below the square of max(½ point, a quarter of the control); "
        "control above 0",
        source="read",
        experiment=equal_noise.curves_coincide,
        minutes=8.5,
        differs=f"{_DIFFERS}; both rates below the mean 2/λ_max at the start; in earlier rounds rates of 2 and 8 "
        "decided",
        disputed="whether three factors suffice: Luo and Wang find that the relation may fail unless C is proportional "
        "to H",
    ),
    _claim(
        id="C4.2",
        statement="The largest β at which (βη, βS) trains as (η, S) does is proportional to 1/(ηλ).",
        statistic="slope of log β_max on log 1/(ηλ_ref) over widths; β_max: where the loss leaves that at β = 1 by a "
        "quarter of the change at four times the noise",
        criterion="95% interval within 1 ± 0.25",
        source="derived",
        experiment=rescaling.largest_factor,
        minutes=4.0,
        differs="the part about 1/(ηλ), which is our sharpening, by widths of a small MLP with mse; examples drawn "
        "with replacement, so that N does not enter (its part is confounded with the number of steps and not tested); "
        "warm-up, so that the first steps do not decide; a first version, with β_max seed by seed and 16 seeds, was "
        "inconclusive on confirming seeds: 0.71 [0.51, 0.92]",
    ),
    _claim(
        id="C4.3",
        statement="Higher η/S leads to flatter minima.",
        statistic="change of log λ_max for each doubling of η/S within a seed, given a cubic in log training loss and "
        "log time",
        criterion="95% interval below 0",
        source="read",
        experiment=sharpness.flatter_minima,
        minutes=2.0,
        differs="a small MLP on MNIST-1D with mse, whose curvature does not vanish with the loss; the batch varies. "
        "Cross-entropy, a rate that varies, tr H instead of ‖H‖, and whether η and S matter beyond η/S do not decide",
        studies=(sharpness.CURVATURE_OVER_BATCHES,),
    ),
    _claim(
        id="C4.4",
        statement="Higher η/S leads to better test accuracy, up to an optimum.",
        statistic="slope of accuracy on log₂(η/S) below the optimum, at equal epochs and at equal η·steps",
        criterion="95% intervals above 0",
        source="read",
        experiment=more_noise.more_noise_helps,
        minutes=5.0,
        differs=_DIFFERS,
    ),
    _claim(
        id="C4.5",
        statement="The stationary excess loss is (η/4S)·Tr C, with a correction for steps of finite size.",
        statistic="simulated over exact loss, of the η farthest off; simulated over (η/4S)·Tr C at small η",
        criterion="95% intervals within 1 ± 0.01 and 1 ± 0.05",
        source="derived",
        experiment=stationary_loss.excess,
        minutes=1.5,
        differs="a quadratic with planted noise, which is the setting of the statement",
    ),
    _claim(
        id="C4.6",
        statement="Near minima the covariance C of gradients points where the Hessian H does.",
        statistic="cosine of C and H in the Frobenius product, at three training losses",
        criterion="95% intervals above ½",
        source="recalled",
        experiment=covariance_and_hessian.alignment,
        minutes=1.0,
        differs="about 1,200 parameters, so that both matrices are exact; directions decide, not sizes: C ≈ H would "
        "require tr C/tr H near 1 too, which is reported, with the exponent of vᵀCv in vᵀHv",
    ),
    _claim(
        id="C4.7",
        statement="A schedule of the batch can replace the schedule of the rate.",
        statistic="difference of accuracies seed by seed, beside a control without a schedule",
        criterion="equivalence within max(½ point, a quarter of the control); controls above 0",
        source="read",
        experiment=batch_schedules.replaces_the_rate,
        minutes=2.0,
        differs=f"{_DIFFERS}; whole curves do not decide; both schedules have the same ε·steps, and the control "
        "without a schedule has more; with 20 seeds instead of 40, one of the two schedules was inconclusive on "
        "confirming seeds",
        studies=(batch_schedules.BATCH_SCHEDULES,),
    ),
    _claim(
        id="C4.8",
        statement="At equal memorization of random labels, higher η/S generalizes better.",
        statistic="coefficient of log(η/S) in clean test accuracy, given memorized accuracy and its square: along "
        "training, and at its end",
        criterion="95% intervals above 0",
        source="read",
        experiment=memorization.memorization,
        minutes=2.0,
        differs="1,000 examples of MNIST-1D; at the end most runs have memorized all labels; momentum, compared at "
        "equal η/(S(1 − m)), does not decide; equal epochs, so that noisier runs have had more η·steps: memorized "
        "accuracy takes the place of time",
    ),
    _claim(
        id="C4.9",
        statement="Cycles of η/S modulate sharpness.",
        statistic="log λ_max at noisy minus quiet ends of half-cycles, without drift",
        criterion="95% interval below 0",
        source="read",
        experiment=sharpness_cycles.cycles,
        minutes=1.5,
        differs="a small MLP on MNIST-1D with mse, cycles of the batch; cycles of the rate, and cross-entropy, do not "
        "decide",
    ),
    _claim(
        id="C4.10",
        statement="Along the line between two minima the barrier-free part is wider for higher η/S.",
        statistic="log of the width beyond the noisy end over that beyond the quiet end",
        criterion="95% interval above 0",
        source="read",
        experiment=lines_between_minima.widths,
        minutes=1.0,
        differs="a small MLP on MNIST-1D with mse, two values of S at one η; width: until twice the lower loss",
    ),
    _claim(
        id="C4.11",
        statement="With isotropic noise, SGD visits wells by the Gibbs law e^(−L/n), n = σ²η/(2S).",
        statistic="log odds of two wells minus the law's, of the n farthest off; slope in 1/n over the law's",
        criterion="95% intervals within 0 ± 0.1 nats and 1 ± 0.1",
        source="read",
        experiment=gibbs_law.gibbs,
        minutes=4.0,
        differs="two wells in one dimension, which is the setting of the statement",
    ),
)
