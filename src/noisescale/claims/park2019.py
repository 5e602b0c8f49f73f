"""Park, Sohl-Dickstein, Le, Smith 2019: the best normalized noise scale grows with width."""

from __future__ import annotations

from noisescale.claims import laws_of_width, rates_and_batches
from noisescale.claims.claim import Claim

_P = "park2019"
_DIFFERS = "one hidden layer on MNIST-1D where the paper has MLPs, convolutional and residual networks on images"

CLAIMS = (
    Claim("C1.1", _P, "The best batch size is proportional to the learning rate.",
          "slopes of log B_opt on log ε, at equal epochs and at equal ε·steps",
          "95 % intervals within 1 ± 0.5, which excludes 0, ½ and 3/2", "read", rates_and_batches.best_batch, 9.4,
          _DIFFERS),
    Claim("C1.2", _P, "Below the largest stable rate, late test accuracy is a function of ε/B alone.",
          "change of accuracy from ε = 1 to 4 at equal ε/B, of the ε/B farthest off; control: another ε/B",
          "equivalence within max(½ point, a quarter of the control) at each of four ε/B; control detected", "read",
          rates_and_batches.collapse, 9.0,
          f"{_DIFFERS}; the largest stable rate is taken as 2/λ_max at the start, as for squared error: training also "
          "ends well at larger rates, which start above it, and those stand beside. In earlier rounds rates from 2 to "
          "8 decided"),
    Claim("C1.3", _P, "In the NTK parameterization without batch norm the best ḡ is proportional to width.",
          "slope of log ḡ_opt on log width, at equal ε·steps",
          "95 % interval within 1 ± 0.5, which excludes 0, ½ and 3/2", "read", laws_of_width.noise_in_proportion, 9.0,
          _DIFFERS, at_gpu=True),
    Claim("C1.4", _P, "In the standard parameterization without batch norm the best ε/B does not depend on width.",
          "slope of log (ε/B)_opt on log width", "95 % interval within 0 ± 0.25", "read",
          laws_of_width.temperature_stays, 5.0, _DIFFERS, at_gpu=True),
    Claim("C1.5", _P, "Each at its own optimum, wider networks have higher test accuracy.",
          "rank correlation of peak accuracy with width, within a seed", "95 % interval above 0", "read",
          laws_of_width.peak_rises, 5.4, _DIFFERS, at_gpu=True),
    Claim("C1.6", _P, "The largest stable rate does not depend on width under NTK and falls as 1/width under standard.",
          "slopes of log ε_½ on log width at the largest batch", "95 % intervals within 0 ± 0.25 and −1 ± 0.25",
          "recalled", laws_of_width.stable_rate, 2.5, _DIFFERS,
          "the theory is of squared error and linearised networks; with cross-entropy others find rates that fall much "
          "slower with width in the standard parameterization; here cross-entropy decides and squared error stands "
          "beside", at_gpu=True),
    Claim("C1.7", _P, "The largest batch that is consistent with the best noise falls with width.",
          "slope of log B* on log width", "95 % interval below 0", "read", laws_of_width.largest_batch_falls, 5.4,
          _DIFFERS, at_gpu=True),
    Claim("C1.8", _P, "With batch norm the trend holds for residual networks and not for convolutional ones.",
          "slope of log ḡ_opt on log width, for both", "95 % intervals above 0, and within 0 ± 0.25", "read",
          laws_of_width.with_batch_norm, 9.3,
          "networks of two blocks and of three convolutions on 8×8 digits where the paper has wide residual and "
          "convolutional ones on CIFAR", at_gpu=True),
    Claim("C1.9", _P, "At finite width NTK networks generalize worse than standard ones, each at its optimum.",
          "difference of peak accuracies, seed by seed", "95 % interval below 0", "read", laws_of_width.ntk_is_worse,
          9.4, f"{_DIFFERS}; NTK at ε = 8 and standard at ε = 0.25, each at its best batch: ε itself is not tuned",
          "Lee et al. 2020 (arXiv:2007.15801) find NTK the better one at finite width", at_gpu=True),
    Claim("C1.10", _P, "There is a width beyond which constant SGD stops to improve.",
          "gain of the first two doublings of width, and of the last two less a quarter of it",
          "95 % intervals above 0 and below 0; all of the second above 0 leaves it open, since the width may be larger",
          "read", laws_of_width.critical_width, 2.1,
          f"{_DIFFERS}; few examples with redrawn labels, and no width above 512"),
    Claim("C1.11", _P, "The initial variance enters as 1/σ²: the best g is proportional to σ0².",
          "slope of log g_opt on log σ0²", "95 % interval within 1 ± 0.5, which excludes 0", "derived",
          laws_of_width.init_variance_is_a_unit, 3.4, _DIFFERS),
)  # fmt: skip
