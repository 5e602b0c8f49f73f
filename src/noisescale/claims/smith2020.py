"""Smith, Elsen, De 2020: noise itself helps, at equal epochs and at equal steps."""

from __future__ import annotations

from noisescale.claims.claim import Claim

_P = "smith2020"

CLAIMS = (
    Claim("C3.1", _P, "At equal epochs the best rate grows with B, then saturates, and accuracy is flat, then falls.",
          "slopes of log ε_opt on log B below and above a break", "within 1 ± 0.25 below; below ½ above", "recalled"),
    Claim("C3.2", _P, "Momentum does not help at small batches and does at large ones.",
          "paired difference of accuracies; ratio of best ε/(1 − m)", "equivalent below the break; above 0 beyond it",
          "recalled"),
    Claim("C3.3", _P, "At equal steps test accuracy falls with the batch while training loss falls too.",
          "trends of both against log B", "both intervals below 0", "read"),
    Claim("C3.4", _P, "The gap stays when large batches get many times the steps.", "difference of asymptotes",
          "interval above 0", "recalled"),
    Claim("C3.5", _P, "The rate best for test accuracy falls slower with the epoch budget than that best for the loss.",
          "difference of slopes against log budget", "interval above 0", "read"),
    Claim("C3.6", _P, "The best temperature ε/((1 − m)B) is the same across batches, budgets and momenta.",
          "slopes of log T_opt", "within 0 ± 0.25", "read"),
    Claim("C3.7", _P, "With whole-batch statistics instead of ghost batches the trend in B is confounded.",
          "interaction of batch and kind of statistics", "interval excludes 0", "read"),
    Claim("C3.8", _P, "The effect exists without batch norm too.", "as C3.3, without normalization",
          "both intervals below 0", "recalled"),
)  # fmt: skip
