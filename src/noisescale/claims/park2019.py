"""Park, Sohl-Dickstein, Le, Smith 2019: the best normalized noise scale grows with width."""

from __future__ import annotations

from noisescale.claims.claim import Claim

_P = "park2019"

CLAIMS = (
    Claim("C1.1", _P, "The best batch size is proportional to the learning rate.", "slope of log B_opt on log ε",
          "interval contains 1 and excludes 0 and ½", "read"),
    Claim("C1.2", _P, "Below the largest stable rate, late test accuracy is a function of ε/B alone.",
          "differences of accuracy at equal ε/B, beside a control at another", "equivalence within the margin", "read"),
    Claim("C1.3", _P, "In the NTK parameterization without batch norm the best ḡ is proportional to width.",
          "slope of log ḡ_opt on log width", "interval contains 1 and excludes 0", "read"),
    Claim("C1.4", _P, "In the standard parameterization without batch norm the best ε/B does not depend on width.",
          "slope of log (ε/B)_opt on log width", "interval within 0 ± 0.25", "read"),
    Claim("C1.5", _P, "Each at its own optimum, wider networks have higher test accuracy.",
          "rank correlation of peak accuracy with width", "interval above 0", "read"),
    Claim("C1.6", _P, "The largest stable rate does not depend on width under NTK and falls as 1/width under standard.",
          "slopes of log ε_½ on log width", "within 0 ± 0.25 and −1 ± 0.25", "recalled"),
    Claim("C1.7", _P, "The largest batch that is consistent with the best noise falls with width.",
          "slope of log B* on log width", "interval below 0", "read"),
    Claim("C1.8", _P, "With batch norm the trend holds for residual networks and not for convolutional ones.",
          "slope of log ḡ_opt on log width, for both", "above 0; within 0 ± 0.25", "read"),
    Claim("C1.9", _P, "At finite width NTK networks generalize worse than standard ones, each at its optimum.",
          "paired difference of peak accuracies", "interval below 0; the literature disagrees", "read"),
    Claim("C1.10", _P, "There is a width beyond which constant SGD stops to improve.",
          "a change point against a monotone fit", "a change point is preferred", "read"),
    Claim("C1.11", _P, "The initial variance enters as 1/σ²: the best g is proportional to σ0².",
          "slope of log g_opt on log σ0²", "interval contains 1 and excludes 0", "derived"),
)  # fmt: skip
