"""The words of the report and what they mean; labels are those of `noisescale.laws`, with spaces for underscores."""

from __future__ import annotations

from noisescale.laws import ADVICE, STABILITY_SHARE
from noisescale.store import LATE_MARGIN

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "learning rate ε",
        "the number before the parameterization's multipliers; each tensor's own rate is ε times its c",
    ),
    ("batch size B", "training examples per step"),
    (
        "noise scale g",
        "ε(N/B − 1)/(1 − m), or εN/(B(1 − m)) where examples are drawn with replacement; N training examples, momentum "
        "m; in examples",
    ),
    ("temperature", "ε/(B(1 − m)); in 1/examples"),
    (
        "normalized noise scale ḡ",
        "g·c/σ² of the read-out, c its rate multiplier and σ² its initial variance: noise in units of the initial "
        "weights; under NTK ḡ = g",
    ),
    (
        "largest stable rate ε½",
        "the rate at which half of the seeds fail (diverge, or collapse to chance) within the steps of the stability "
        "ladder, at a stated batch size",
    ),
    ("largest batch B*", "the largest batch at which the rate ε½ still reaches the best noise scale"),
    ("cell", "one learning rate and batch size at one width, trained with every seed"),
    (
        "late",
        "a cell whose test accuracy has stopped moving: the 95 % interval over seeds of its drift between the last two "
        f"windows lies within ±{LATE_MARGIN:g} (without an accuracy: the relative drift of the training loss)",
    ),
    ("interior", f"{ADVICE['interior']}, both ends of its interval known"),
    ("censored low", f"a bound from above, not a point; {ADVICE['censored_low']}"),
    ("censored high", f"a bound from below, not a point; {ADVICE['censored_high']}"),
    ("not identified low", ADVICE["not_identified_low"]),
    ("not identified high", ADVICE["not_identified_high"]),
    ("flat", ADVICE["flat"]),
    ("two peaks", ADVICE["two_peaks"]),
    ("too few cells", ADVICE["too_few_cells"]),
    ("too few seeds", ADVICE["too_few_seeds"]),
    ("not late", "the cells that decide the optimum still move: train longer"),
    (
        "stability-limited",
        f"the rate at the optimum lies above {STABILITY_SHARE:g} ε½: it shows where training breaks, not where noise "
        "is best",
    ),
    (
        "NTK parameterization",
        "weights start with variance σ0²/d (d the fan-in) and their rate is ε·σ0²/d, biases start at 0 with rate ε: "
        "the rates belong to that table, so use Recommendation.parameter_groups, not lr= alone",
    ),
    ("standard parameterization", "weights start with variance σ0²/d, biases at 0, and every tensor has the rate ε"),
    ("own parameterization", "the module's own initialization, and the rate ε for every tensor"),
)
