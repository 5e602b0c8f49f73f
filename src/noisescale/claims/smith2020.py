"""Smith, Elsen, De 2020: noise itself helps, at equal epochs and at equal steps."""

from __future__ import annotations

from noisescale.claims import equal_steps, tuned_rates
from noisescale.claims.claim import Claim

_P = "smith2020"
_DIFFERS = "one hidden layer on MNIST-1D where the paper has WRN-16-4 on CIFAR-10, and no weight decay"
_NOISY = f"{_DIFFERS}; a fifth of the labels redrawn"
_TIME = (
    f"{_DIFFERS}; up to the break equal epochs at ε ∝ B are equal ε·steps too, beyond it noise and time fall together: "
    "C3.3 and C3.8 have equal steps"
)

CLAIMS = (
    Claim("C3.1", _P, "At equal epochs the best rate grows with B, then saturates, and accuracy is flat, then falls.",
          "slopes of log ε_opt on log B up to a break and beyond; accuracy at the largest batch less that below it",
          "95 % intervals within 1 ± 0.25, below ½, below 0; accuracy the same up to the break within max(½ point, a "
          "quarter of that fall)", "recalled", tuned_rates.saturation, 3.0, _TIME, at_gpu=True),
    Claim("C3.2", _P, "Momentum does not help at small batches and does at large ones.",
          "difference of accuracies at the two smallest batches and at the largest; log ratio of the best ε/(1 − m)",
          "equivalence within max(½ point, a quarter of the gain at the largest batch); gain above 0; ratio within "
          "[1/√2, √2]", "recalled", tuned_rates.momentum_helps_late, 6.0, _TIME, at_gpu=True),
    Claim("C3.3", _P, "At equal steps test accuracy falls with the batch while training loss falls too.",
          "changes of accuracy and of training loss for each doubling of B, at the rate best for test accuracy",
          "95 % intervals below 0, of the same runs, over at least four batches; at the rate best for the training "
          "loss, and each step to a larger batch, beside", "read", equal_steps.with_ghost_batches, 7.0, _NOISY,
          at_gpu=True),
    Claim("C3.4", _P, "The gap stays when large batches get many times the steps.",
          "accuracy of the smallest batch at equal steps less that of the largest at the better of two budgets",
          "95 % interval above 0", "recalled", equal_steps.gap_stays, 4.0,
          f"{_NOISY}; four times the steps, where unlimited time would want ten or more"),
    Claim("C3.5", _P, "The rate best for test accuracy falls slower with the epoch budget than that best for the loss.",
          "difference of the slopes of both log rates on log epochs; slope of that best for the loss",
          "95 % intervals above 0, and below 0", "read",
          tuned_rates.rates_over_budgets, 2.0, _DIFFERS),
    Claim("C3.6", _P, "The best temperature ε/((1 − m)B) is the same across batches, budgets and momenta.",
          "slopes of log T_opt on log B and on log epochs; log ratio of both momenta",
          "95 % intervals within 0 ± 0.25, and within ± log √2", "read", tuned_rates.best_temperature, 8.0, _DIFFERS),
    Claim("C3.7", _P, "With whole-batch statistics instead of ghost batches the trend in B is confounded.",
          "difference of the trends of accuracy in log B", "95 % interval without 0, over at least four batches",
          "read", equal_steps.ghosts_matter, 6.0, _NOISY),
    Claim("C3.8", _P, "The effect exists without batch norm too.", "as C3.3, without normalization", "as C3.3",
          "recalled", equal_steps.without_batch_norm, 3.0, _NOISY),
)  # fmt: skip
