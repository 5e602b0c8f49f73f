"""A small and a large initial learning rate, with equal numbers of steps and with steps in proportion to 1/(ηλ)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from noisescale.claims.equivalence_tests import Pair, equivalence
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.scale_invariant_pack import NETWORK_WITHOUT_DATA, ScaleInvariantPack
from noisescale.claims.panel import Curve, Floats, Panel, mean_with_deviations

_SEEDS = {"smoke": 5, "laptop": 10}
# Both rates have the same decay, so their products ηλ have the same ratio as the rates.
_LARGE, _RATIO, _DECAY = 0.2, 10, 0.01
_SMALL = _LARGE / _RATIO
# All runs end with this rate, which is a tenth of the small rate.
_FINAL = 0.002
_STEPS = {"smoke": 100, "laptop": 1000}
_FINAL_STEPS = {"smoke": 100, "laptop": 500}


@dataclass(frozen=True)
class _FinalAccuracies:
    """Test accuracies after the final decay of the rate.

    Args:
        large: Test accuracy with the large rate, shape [S].
        steps: Numbers of steps at the small rate before the final decay, length M.
        small: Test accuracy with the small rate after these steps, shape [M, S].
    """

    large: Floats
    steps: list[int]
    small: Floats


def small_initial_rate(request: Request) -> Evidence:
    """C2.9: a ten times smaller rate reaches the accuracy of the large rate after ten times the steps."""
    seeds, steps, final_steps = request.seeds(_SEEDS), _STEPS[request.scale], _FINAL_STEPS[request.scale]
    data = {"digits": "digits"} | ({"mnist1d": "MNIST-1D"} if request.scale == "laptop" else {})
    accuracies = {name: _train(dataset, seeds, steps, final_steps) for dataset, name in data.items()}
    digits, *others = accuracies.values()
    further = [statistic for item in others for statistic in _equivalence(item, request.null)]
    return Evidence(
        statistics=_equivalence(digits, request.null),
        panels=tuple(_panel(name, item, steps) for name, item in accuracies.items()),
        runs=len(seeds) * (1 + len(digits.steps)) * len(accuracies),
        setting=f"{NETWORK_WITHOUT_DATA}; λ = {_DECAY:g}, η = {_LARGE:g} for {steps} steps or {_SMALL:g} for "
        f"{_RATIO * steps}, then {_FINAL:g} for {final_steps}",
        reported={"test accuracy, large rate": float(digits.large.mean())},
        beside=tuple(replace(statistic, name=f"MNIST-1D, {statistic.name}") for statistic in further),
    )


def _equivalence(accuracies: _FinalAccuracies, null: bool) -> Pair:
    # In the null experiment, the small rate trains for as many steps as the large rate.
    end = accuracies.small[0 if null else -1]
    control = accuracies.large - accuracies.small[0]
    return equivalence("test accuracy, small rate for ten times the steps", end - accuracies.large, control)


def _train(dataset: str, seeds: Sequence[int], steps: int, final_steps: int) -> _FinalAccuracies:
    large = ScaleInvariantPack([(_LARGE, _DECAY)], seeds, dataset=dataset)
    large.train(steps)
    small = ScaleInvariantPack([(_SMALL, _DECAY)], seeds, dataset=dataset)
    step_counts, rows = [steps, 3 * steps, _RATIO * steps], []
    for count in step_counts:
        small.train(count - small.trainer.state.step)
        state = copy.deepcopy(small.trainer.state)
        rows.append(_accuracy_after_decay(small, final_steps))
        small.change([(_SMALL, _DECAY)] * len(seeds))
        small.trainer.state = state
    return _FinalAccuracies(_accuracy_after_decay(large, final_steps), step_counts, np.stack(rows))


def _accuracy_after_decay(pack: ScaleInvariantPack, steps: int) -> Floats:
    """Train at the final rate, and return the test accuracy [S]."""
    pack.change([(_FINAL, _DECAY)] * len(pack.runs))
    pack.train(steps)
    accuracy: Floats = pack.accuracies()[1]
    return accuracy


def _panel(name: str, accuracies: _FinalAccuracies, steps: int) -> Panel:
    x, large = np.array(accuracies.steps, dtype=np.float64), accuracies.large
    curves = (
        mean_with_deviations(f"η = {_SMALL:g}", x, accuracies.small),
        mean_with_deviations(f"η = {_LARGE:g}", np.array([float(steps)]), large[None]),
        Curve(f"mean of η = {_LARGE:g}", x[[0, -1]], large.mean(keepdims=True).repeat(2), kind="reference"),
    )
    return Panel("steps before the final rate", f"final test accuracy, {name}", curves, log_x=True)
