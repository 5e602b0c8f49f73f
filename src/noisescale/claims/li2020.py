"""Li, Lyu, Arora 2020: with normalization and decay the intrinsic rate ηλ governs everything."""

from __future__ import annotations

from noisescale.claims import equilibrium, full_batch, histories, mixing, parameter_space, relaxation, small_rates
from noisescale.claims.claim import Claim

_P = "li2020"
_DIFFERS = "a small MLP on digits where the paper has PreResNet-32 on CIFAR-10; independent batches"

CLAIMS = (
    Claim("C2.1", _P, "‖w‖² of a scale-invariant weight follows (1 − ηλ)²‖w‖² + η²‖ĝ‖²/‖w‖² exactly.",
          "largest relative error of a step; largest |⟨g, w⟩|/(‖g‖‖w‖)", "95 % intervals below 1e-8 and 1e-6",
          "derived", equilibrium.recursion, 0.1, _DIFFERS),
    Claim("C2.2", _P, "(w, η, λ) → (cw, c²η, λ/c²) leaves the network's outputs as they are.",
          "largest difference of outputs over 50 steps", "95 % interval below 1e-6", "derived",
          equilibrium.symmetry, 0.1, _DIFFERS),
    Claim("C2.3", _P, "The norm settles where ‖w‖⁴ = ηS/(λ(2 − ηλ)).",
          "measured over theory, of the (η, λ) farthest off",
          "95 % interval within 1 ± 0.05", "derived", equilibrium.equilibrium_norm, 1.0, _DIFFERS, at_gpu=True),
    Claim("C2.4", _P, "Effective rate, rotation, training loss and accuracy at equilibrium depend on ηλ only.",
          "rotation over √(2ηλ); exponent of η at equal ηλ; training loss and test accuracy of two rates at equal ηλ, "
          "of the ηλ farthest off; control: another ηλ",
          "95 % intervals within 1 ± 0.05 and 0 ± 0.25; equivalence within a quarter of the control, which is detected",
          "read", equilibrium.rotation_of_products, 1.0, _DIFFERS, at_gpu=True),
    Claim("C2.5", _P, "‖w‖⁴ relaxes at the rate 4ηλ.",
          "rate over 4ηλ, of the ηλ farthest off; slope of log rate on log ηλ",
          "95 % intervals within 1 ± 0.1 and 1 ± 0.25", "derived", relaxation.relaxation_rate, 0.6,
          f"{_DIFFERS}; every image under every label, so that nothing is learnt and S stays as it is"),
    Claim("C2.6", _P, "After different histories the same (η, λ) leads to the same equilibrium.",
          "effective rates and accuracies after the histories with the largest and the smallest ηλ",
          "at 4/(ηλ) after merging effective rate within 1 ± 0.05, accuracies equivalent within a quarter of the "
          "difference at merging, which is detected", "read", histories.same_equilibrium, 1.0,
          f"{_DIFFERS}; MNIST-1D, on which development seeds had not come together by then, is beside",
          at_gpu=True),
    Claim("C2.7", _P, "In function space SGD mixes in O(1/(ηλ)) steps.",
          "slope of log mixing time on log 1/(ηλ); share of the distance between functions that is left at 1/(ηλ)",
          "95 % intervals within 1 ± 0.25 and below 0.25", "read", mixing.mixing_time, 2.0, _DIFFERS),
    Claim("C2.8", _P, "In parameter space it does not mix.",
          "barrier of the loss between seeds, less that within a trajectory; growth of the distance of directions "
          "from 3/(ηλ) to 10/(ηλ); gain in training loss by averaging two directions of a trajectory, and of two seeds",
          "95 % intervals above 0, and of the gain across seeds below 0", "read", parameter_space.no_mixing, 0.5,
          f"{_DIFFERS}; averages of two snapshots, judged by the training loss"),
    Claim("C2.9", _P, "A small initial rate matches a large one, given time in proportion to 1/(ηλ).",
          "difference of final test accuracies after 10 times the steps, beside that at equal steps",
          "equivalence within a quarter of the difference at equal steps, which is detected", "read",
          small_rates.small_initial_rate, 1.5, _DIFFERS),
    Claim("C2.10", _P, "Full-batch descent with decay never settles.",
          "spikes with decay and without, before and after decay is switched off; spikes of x²/(x² + y²)",
          "more with decay by at least 1, below 1 after it is switched off: 95 % intervals", "read",
          full_batch.spikes_of_descent, 1.0,
          "a small MLP and 200 digits where the paper has a ResNet and 1,000 images"),
    Claim("C2.11", _P,
          "A cut of η by k acts at once and is half undone, one of λ acts slowly; at equal S both end at 1/√k.",
          "effective rate at once and at the end, beside an uncut twin, without what the cut does to S",
          "95 % intervals within 1 ± 0.05: at once, between both ends, and at each end times √(k·S over the twin's)",
          "derived", equilibrium.cuts, 1.0,
          f"{_DIFFERS}; S, which theory holds fixed, is measured and divided out; ends as they are stand beside"),
    Claim("C2.12", _P, "With momentum m: ‖w‖⁴ = ηS/(λ(1 − m)(2 − ηλ/(1 + m))), rotation √(2ηλ/(1 + m)).",
          "both, measured over theory", "95 % intervals within 1 ± 0.05", "recalled", equilibrium.with_momentum, 1.0,
          f"{_DIFFERS}; nine labels of ten redrawn, so that gradients are independent"),
)  # fmt: skip
