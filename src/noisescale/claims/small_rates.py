"""A small initial rate beside a large one, at equal steps and at steps in proportion to 1/(ηλ)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import Statistic, same
from noisescale.claims.norm_trace import Bench, Floats, seeds_of

_SEEDS = {"smoke": 5, "laptop": 10}
# The decay of weights is common, so that the ratio of rates is that of ηλ.
_LARGE, _RATIO, _DECAY = 0.2, 10, 0.01
# After which all are trained at the same rate, a tenth of the small one.
_FINAL = 0.002
_STEPS = {"smoke": 100, "laptop": 1000}
_FINAL_STEPS = {"smoke": 100, "laptop": 500}
_SETTING = "MLP of two hidden layers of width 32, batch norm without gains, fixed read-out, B = 32, float64"


@dataclass(frozen=True)
class _Final:
    """Test accuracies after the final decay of the rate.

    Arguments:
        large: [S]. steps: [M], before the final decay. small: [M, S], of the small rate after so many steps.
    """

    large: Floats
    steps: list[int]
    small: Floats


def small_initial_rate(request: Request) -> Evidence:
    """C2.9: a rate ten times smaller matches the large one after ten times the steps; at equal steps they differ."""
    seeds, steps, last = seeds_of(request, _SEEDS), _STEPS[request.scale], _FINAL_STEPS[request.scale]
    found = _final("digits", seeds, steps, last)
    beside: tuple[Statistic, ...] = ()
    panels = [_panel("digits", found, steps)]
    if request.scale == "laptop":
        harder = _final("mnist1d", seeds, steps, last)
        beside = tuple(replace(one, name=f"MNIST-1D, {one.name}") for one in _statistics(harder, request.null))
        panels.append(_panel("MNIST-1D", harder, steps))
    return Evidence(
        _statistics(found, request.null), tuple(panels), len(seeds) * (1 + len(found.steps)) * len(panels),
        f"{_SETTING}; λ = {_DECAY:g}, η = {_LARGE:g} for {steps} steps or {_LARGE / _RATIO:g} for {_RATIO * steps}, "
        f"then {_FINAL:g} for {last}",
        {"test accuracy, large rate": float(found.large.mean())},
        beside,
    )  # fmt: skip


def _statistics(found: _Final, null: bool) -> tuple[Statistic, Statistic]:
    # Taken out: the small rate has no more steps than the large one.
    end = found.small[0 if null else -1]
    return same("test accuracy, small rate for ten times the steps", end - found.large, found.large - found.small[0])


def _final(dataset: str, seeds: list[int], steps: int, last: int) -> _Final:
    large = Bench([(_LARGE, _DECAY)], seeds, dataset=dataset)
    large.skip(steps)
    small = Bench([(_LARGE / _RATIO, _DECAY)], seeds, dataset=dataset)
    looks, found = [steps, 3 * steps, _RATIO * steps], []
    for look in looks:
        small.skip(look - small.trainer.state.step)
        kept = copy.deepcopy(small.trainer.state)
        found.append(_after_decay(small, last))
        small.change([(_LARGE / _RATIO, _DECAY)] * len(seeds))
        small.trainer.state = kept
    return _Final(_after_decay(large, last), looks, np.stack(found))


def _after_decay(bench: Bench, steps: int) -> Floats:
    """Test accuracy [S] at the end of the final rate."""
    bench.change([(_FINAL, _DECAY)] * len(bench.runs))
    bench.skip(steps)
    test: Floats = bench.accuracies()[1]
    return test


def _panel(name: str, found: _Final, steps: int) -> Panel:
    x = np.array(found.steps, dtype=np.float64)
    means, spread = found.small.mean(1), found.small.std(1, ddof=1)
    large, half = found.large.mean(keepdims=True), found.large.std(ddof=1)
    return Panel(
        "steps before the final rate", f"final test accuracy, {name}",
        (
            Curve(f"η = {_LARGE / _RATIO:g}, ± standard deviation of seeds", x, means, means - spread, means + spread),
            Curve(f"η = {_LARGE:g}", np.array([float(steps)]), large, large - half, large + half),
            Curve(f"the mean of η = {_LARGE:g}", x[[0, -1]], large.repeat(2), kind="reference"),
        ),
        log_x=True,
    )  # fmt: skip
