"""Jastrzębski et al. 2017: learning rate over batch size decides which minimum is found."""

from __future__ import annotations

from noisescale.claims import (
    batch_schedules,
    covariance_and_hessian,
    lines_between_minima,
    memorization,
    rates_and_batches,
    rescaling,
    sandbox,
    sharpness_of_minima,
    wells,
)
from noisescale.claims.claim import Claim

_P = "jastrzebski2017"
_DIFFERS = "one hidden layer on MNIST-1D where the paper has ResNet-56 and VGG-11 on CIFAR-10"

CLAIMS = (
    Claim("C4.1", _P, "Training curves at equal η/S coincide.",
          "mean square distance of curves at η = 1 and 4, of the η/S farthest off; control: another η/S",
          "at each of four η/S 95 % interval below the square of max(½ point, a quarter of the control); control "
          "above 0", "read", rates_and_batches.curves_coincide, 8.5,
          f"{_DIFFERS}; both rates below the mean 2/λ_max at the start; in earlier rounds rates of 2 and 8 decided",
          "whether three factors suffice: Luo and Wang find that the relation may fail unless C is proportional to H"),
    Claim("C4.2", _P, "The largest β at which (βη, βS) trains as (η, S) does is proportional to 1/(ηλ).",
          "slope of log β_max on log 1/(ηλ_ref) over widths; β_max: where the loss leaves that at β = 1 by a quarter "
          "of what four times the noise does", "95 % interval within 1 ± 0.25", "derived", rescaling.breaking, 4.0,
          "the part about 1/(ηλ), which is our sharpening, by widths of a small MLP with mse; examples drawn with "
          "replacement, so that N does not enter, whose part is confounded with the number of steps and not tested; "
          "warm-up, so that the first steps do not decide; a first version, with breaks "
          "seed by seed and 16 seeds, was inconclusive on confirming seeds: 0.71 [0.51, 0.92]"),
    Claim("C4.3", _P, "Higher η/S leads to flatter minima.",
          "change of log λ_max for each octave of η/S within a seed, given a cubic in log training loss and log time",
          "95 % interval below 0", "read", sharpness_of_minima.flatter_minima, 2.0,
          "a small MLP on MNIST-1D with mse, whose curvature does not vanish with the loss, the batch varied; "
          "cross-entropy, the rate varied, tr H in place of ‖H‖, and that η and S add nothing to η/S, beside",
          at_gpu=True),
    Claim("C4.4", _P, "Higher η/S leads to better test accuracy, up to an optimum.",
          "slope of accuracy on log₂(η/S) below the optimum, at equal epochs and at equal η·steps",
          "95 % intervals above 0", "read", rates_and_batches.more_noise_helps, 5.0, _DIFFERS),
    Claim("C4.5", _P, "The stationary excess loss is (η/4S)·Tr C, with a correction for steps of finite size.",
          "simulated over exact loss, of the η farthest off; simulated over (η/4S)·Tr C at small η",
          "95 % intervals within 1 ± 0.01 and 1 ± 0.05", "derived", sandbox.excess, 1.5,
          "a quadratic with planted noise, which is the statement's own ground"),
    Claim("C4.6", _P, "Near minima the covariance C of gradients points where the Hessian H does.",
          "cosine of C and H in Frobenius' product, at three training losses", "95 % intervals above ½", "recalled",
          covariance_and_hessian.alignment, 1.0,
          "about 1,200 parameters, so that both matrices are exact; directions decide and not sizes: C ≈ H would want "
          "tr C/tr H near 1 too, which is reported, with the exponent of vᵀCv in vᵀHv"),
    Claim("C4.7", _P, "A schedule of the batch can replace the schedule of the rate.",
          "difference of accuracies seed by seed, beside a control without a schedule",
          "equivalence within max(½ point, a quarter of the control); controls above 0", "read",
          batch_schedules.replaces_the_rate, 2.0,
          f"{_DIFFERS}; whole curves stand beside; both schedules have the same ε·steps, the "
          "control without one has more; with 20 seeds in place of 40 one of the two schedules was inconclusive on "
          "confirming seeds",
          at_gpu=True),
    Claim("C4.8", _P, "At equal memorization of random labels, higher η/S generalizes better.",
          "coefficient of log(η/S) in clean test accuracy, given memorized accuracy and its square: along training, "
          "and at its end", "95 % intervals above 0", "read", memorization.memorization, 2.0,
          "1,000 examples of MNIST-1D; at the end most runs have memorized all; momentum, by η/(S(1 − m)), beside; "
          "equal epochs, so that noisier runs have had more η·steps: memorized accuracy takes time's place"),
    Claim("C4.9", _P, "Cycles of η/S modulate sharpness.",
          "log λ_max at noisy less quiet ends of half-cycles, free of drift", "95 % interval below 0", "read",
          sharpness_of_minima.cycles, 1.5,
          "a small MLP on MNIST-1D with mse, cycles of the batch; of the rate, and with cross-entropy, beside"),
    Claim("C4.10", _P, "Along the line between two minima the barrier-free part is wider for higher η/S.",
          "log of the width beyond the noisy end over that beyond the quiet one", "95 % interval above 0", "read",
          lines_between_minima.widths, 1.0,
          "a small MLP on MNIST-1D with mse, two values of S at one η; width: until twice the lower loss"),
    Claim("C4.11", _P, "With isotropic noise, wells are visited by the Gibbs law e^(−L/n), n = σ²η/(2S).",
          "log odds of two wells minus the law's, of the n farthest off; slope in 1/n over the law's",
          "95 % intervals within 0 ± 0.1 nats and 1 ± 0.1", "read", wells.gibbs, 4.0,
          "two wells in one dimension, which is the statement's own ground"),
)  # fmt: skip
