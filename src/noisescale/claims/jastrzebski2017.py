"""Jastrzębski et al. 2017: learning rate over batch size decides which minimum is found."""

from __future__ import annotations

from noisescale.claims import batch_schedules, rates_and_batches, sandbox, wells
from noisescale.claims.claim import Claim

_P = "jastrzebski2017"
_DIFFERS = "one hidden layer on MNIST-1D where the paper has ResNet-56 and VGG-11 on CIFAR-10"

CLAIMS = (
    Claim("C4.1", _P, "Training curves at equal η/S coincide.",
          "mean square distance of curves at η = 2 and 8, beside that of a control two octaves of η/S away",
          "95 % interval below the square of max(½ point, a quarter of the control); control above 0", "read",
          rates_and_batches.curves_coincide, 5.0, _DIFFERS),
    Claim("C4.2", _P, "Rescaling (βη, βS) breaks at large β; the largest β falls with N and is ∝ 1/(ηλ).",
          "slope of log β_max on log 1/(ηλ_ref)", "within 1 ± 0.25", "derived"),
    Claim("C4.3", _P, "Higher η/S leads to flatter minima.", "rank correlation with λ_max and ‖H‖ at equal loss",
          "interval below 0", "read"),
    Claim("C4.4", _P, "Higher η/S leads to better test accuracy, up to an optimum.",
          "slope of accuracy on log₂(η/S) below the optimum, at equal epochs and at equal η·steps",
          "95 % intervals above 0", "read", rates_and_batches.more_noise_helps, 8.0, _DIFFERS),
    Claim("C4.5", _P, "The stationary excess loss is (η/4S)·Tr C, with a correction for steps of finite size.",
          "simulated over exact loss, mean over η; simulated over (η/4S)·Tr C at small η",
          "95 % intervals within 1 ± 0.01 and 1 ± 0.05", "derived", sandbox.excess, 1.5,
          "a quadratic with planted noise, which is the statement's own ground"),
    Claim("C4.6", _P, "Near minima the covariance C of gradients is close to the Hessian H.",
          "trace ratio, cosine, regression over top eigenvectors", "cosine above ½", "recalled"),
    Claim("C4.7", _P, "A schedule of the batch can replace the schedule of the rate.",
          "difference of accuracies seed by seed, beside a control without a schedule",
          "equivalence within max(½ point, a quarter of the control); controls above 0", "read",
          batch_schedules.replaces_the_rate, 2.0, _DIFFERS),
    Claim("C4.8", _P, "At equal memorization of random labels, higher η/S generalizes better.",
          "coefficient of log(η/S) given memorized accuracy", "interval above 0", "read"),
    Claim("C4.9", _P, "Cycles of η/S modulate sharpness.", "paired difference of λ_max within a cycle",
          "interval below 0", "read"),
    Claim("C4.10", _P, "Along the line between two minima the barrier-free part is wider for higher η/S.",
          "trend of the width", "interval above 0", "read"),
    Claim("C4.11", _P, "With isotropic noise, wells are visited by the Gibbs law e^(−L/n), n = σ²η/(2S).",
          "log odds of two wells minus the law's, mean over n; slope in 1/n over the law's",
          "95 % intervals within 0 ± 0.1 nats and 1 ± 0.1", "read", wells.gibbs, 4.0,
          "two wells in one dimension, which is the statement's own ground"),
)  # fmt: skip
