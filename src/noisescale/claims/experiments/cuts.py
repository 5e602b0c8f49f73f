"""The effective rate after the learning rate or the weight decay is cut at equilibrium."""

from __future__ import annotations

import math

import numpy as np

from noisescale.claims.criterion import within
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.equilibrium_runs import settling_time
from noisescale.claims.experiments.scale_invariant_pack import NETWORK, ScaleInvariantPack
from noisescale.claims.panel import Curve, Panel
from noisescale.claims.statistic import over_seeds
from noisescale.theory import equilibrium

_WITHIN_5_PERCENT = within(1, 0.05)
_SEEDS = {"smoke": 6, "laptop": 10}
_RATE, _DECAY, _FACTOR = 0.4, 0.05, 4.0
# Number of steps over which the effective rate is averaged.
_WINDOW = 200


def cuts(request: Request) -> Evidence:
    """C2.11: after η or λ is divided by k, the effective rate at equal S ends at 1/√k of its old value."""
    seeds, k = request.seeds(_SEEDS), _FACTOR
    pack = ScaleInvariantPack([(_RATE, _DECAY)] * 3, seeds)
    pack.train(settling_time(_RATE * _DECAY))
    before = pack.record(_WINDOW)
    divisor = 1.0 if request.null else k  # in the null experiment, nothing is cut
    pairs = [(_RATE / divisor, _DECAY), (_RATE, _DECAY / divisor), (_RATE, _DECAY)]
    pack.change([pair for pair in pairs for _ in seeds])
    relaxation = equilibrium(_RATE, _DECAY / k, 1.0).relaxation
    steps = int(4 / relaxation) + _WINDOW
    after = pack.record(steps)
    effective_before = _RATE / before.squares.mean((0, 2)).reshape(3, -1)
    rates = np.array([rate for rate, _ in pairs])[:, None]
    effective = rates[None] / after.squares.mean(2).reshape(steps + 1, 3, -1)
    relative = effective / effective_before[None]
    # Dividing by the uncut twin removes the change of S that training itself causes.
    ratio_to_twin = relative / relative[:, 2:]
    first_step, final = ratio_to_twin[1], ratio_to_twin[-_WINDOW:].mean(0)
    relative_to_twin = "relative to the uncut twin"
    # The effective rate is √(2ηλ/S), so the effect of each cut on S must be measured and divided out.
    second_moments = after.unit_gradients[-_WINDOW:].mean((0, 2)).reshape(3, -1)
    at_equal_s = math.sqrt(k) * final[:2] * np.sqrt(second_moments[:2] / second_moments[2])
    x = np.asarray(np.arange(len(relative)) * relaxation, dtype=np.float64)
    curves = (
        Curve("η cut to a quarter", x, ratio_to_twin[:, 0].mean(1)),
        Curve("λ cut to a quarter", x, ratio_to_twin[:, 1].mean(1)),
        Curve("1/√k, at equal S", x[[0, -1]], np.full(2, 1 / math.sqrt(k)), kind="theory"),
    )
    return Evidence(
        statistics=(
            over_seeds("k times the effective rate in the first step after the cut of η", k * first_step[0], "1",
                       relative_to_twin, _WITHIN_5_PERCENT),
            over_seeds("effective rate in the first step after the cut of λ", first_step[1], "1", relative_to_twin,
                       _WITHIN_5_PERCENT),
            over_seeds("ratio of the final effective rates", final[0] / final[1], "1", "cut of η / cut of λ",
                       _WITHIN_5_PERCENT),
            *(
                over_seeds(f"final effective rate after the cut of {cut}, times √(k·S/S_twin)", values, "1",
                           relative_to_twin, _WITHIN_5_PERCENT)
                for cut, values in zip("ηλ", at_equal_s, strict=True)
            ),
        ),
        panels=(
            Panel("4ηλ/k·steps since the cut", "effective learning rate, relative to the uncut twin", curves,
                  log_y=True),
        ),
        runs=3 * len(seeds),
        setting=f"{NETWORK}; η = {_RATE:g}, λ = {_DECAY:g}, k = 4",
        beside=tuple(
            over_seeds(f"final effective rate after the cut of {cut}, times √k", values, "1",
                       f"{relative_to_twin}; S changes too", _WITHIN_5_PERCENT)
            for cut, values in zip("ηλ", math.sqrt(k) * final[:2], strict=True)
        ),
    )  # fmt: skip
