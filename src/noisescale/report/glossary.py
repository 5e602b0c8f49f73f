"""The glossary of the report. It has the labels of `noisescale.laws`, with spaces instead of underscores."""

from __future__ import annotations

from noisescale.laws import OPTIMUM_ADVICE, STABILITY_SHARE
from noisescale.store import LATE_MARGIN

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "learning rate ε",
        "the rate before the multipliers of the parameterization; the rate of each tensor is ε times its multiplier c",
    ),
    ("batch size B", "training examples per step"),
    (
        "noise scale g",
        "ε(N/B − 1)/(1 − m), or εN/(B(1 − m)) with replacement, for N training examples and momentum m; in examples",
    ),
    ("temperature", "ε/(B(1 − m)); in 1/examples"),
    (
        "normalized noise scale ḡ",
        "g·c/σ², where c is the rate multiplier and σ² the initial variance of the read-out; it is the noise in units "
        "of the initial weights, and under NTK ḡ = g",
    ),
    (
        "largest stable rate ε½",
        "the rate at which half of the seeds diverge, or collapse to chance, within the steps of the stability ladder; "
        "it depends on the batch size",
    ),
    ("largest batch B*", "the largest batch size at which a rate of ε½ still reaches the best noise scale"),
    ("cell", "a learning rate and batch size at one width, trained with every seed"),
    (
        "late",
        "a cell is late if its test accuracy has converged: the 95 % interval over seeds of its drift between the last "
        f"two windows lies within ±{100 * LATE_MARGIN:g} % of the accuracy's span. Real-valued targets have no "
        "accuracy: there it is the test loss",
    ),
    ("interior", f"{OPTIMUM_ADVICE['interior']}, and both ends of the optimum's interval are known"),
    ("censored low", f"the position is an upper bound; {OPTIMUM_ADVICE['censored_low']}"),
    ("censored high", f"the position is a lower bound; {OPTIMUM_ADVICE['censored_high']}"),
    ("not identified low", OPTIMUM_ADVICE["not_identified_low"]),
    ("not identified high", OPTIMUM_ADVICE["not_identified_high"]),
    ("flat", OPTIMUM_ADVICE["flat"]),
    ("two peaks", OPTIMUM_ADVICE["two_peaks"]),
    ("unresolved", OPTIMUM_ADVICE["unresolved"]),
    ("too few cells", OPTIMUM_ADVICE["too_few_cells"]),
    ("too few seeds", OPTIMUM_ADVICE["too_few_seeds"]),
    ("not late", "the cells that decide the optimum have not converged: train longer"),
    (
        "stability-limited",
        f"the rate at the optimum exceeds {STABILITY_SHARE:g} ε½, so it shows where training becomes unstable, "
        "not which noise is best",
    ),
    (
        "NTK parameterization",
        "weights start with variance σ0²/d (fan-in d) and have the rate ε·σ0²/d; biases start at 0 and have the rate "
        "ε. The rates differ between tensors, so use Recommendation.parameter_groups instead of a single lr",
    ),
    (
        "standard parameterization",
        "weights start with variance σ0²/d (fan-in d), biases start at 0, and every tensor has the rate ε",
    ),
    ("own parameterization", "the module keeps its initialization, and every tensor has the rate ε"),
)
