"""Runs with different histories, which merge: from some step on, they share one learning rate and one weight decay."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from noisescale.claims.criterion import above, within
from noisescale.claims.equivalence_tests import equivalence
from noisescale.claims.evidence import Evidence, NotRun, Request
from noisescale.claims.experiments.measured_curves import by_run, by_weight, norm_measurements
from noisescale.claims.experiments.scale_invariant_pack import (
    NETWORK_WITHOUT_DATA,
    RateAndDecay,
    ScaleInvariantPack,
    in_words,
)
from noisescale.claims.panel import Curve, Floats, Panel
from noisescale.claims.statistic import Statistic, over_seeds
from noisescale.claims.studies.scale_invariant import NETWORKS_AFTER_HISTORIES
from noisescale.claims.study import completed_runs, obtain
from noisescale.store import Study
from noisescale.training import RandomPieces, schedule_from

# The margin of `docs/verdicts.md` at equilibrium. Before the merge, the log effective rates must differ by more than
# 0.2, several times this margin.
_WITHIN_5_PERCENT, _DETECTED = within(1, 0.05), above(0.2)
_SEEDS = {"smoke": 8, "laptop": 10}
# Pairs (η, λ) of the histories. The largest product ηλ is 16 times the smallest, and every history has another rate.
_HISTORIES = {
    "smoke": ((0.8, 0.02), (0.1, 0.01)),
    "laptop": ((0.8, 0.02), (0.1, 0.01), (0.05, 0.32), (0.4, 0.01)),
}
# The pair (η, λ) that all histories share after the merge.
_COMMON = {"smoke": (0.2, 0.04), "laptop": (0.2, 0.02)}
_STEPS_APART = {"smoke": 500, "laptop": 2000}
# Number of measurements in each 1/(ηλ), which is four relaxation times.
_MEASUREMENTS = 8
# The histories are compared from 4/(ηλ) to 5/(ηλ) steps after the merge.
_FROM, _TO = 4, 5


@dataclass(frozen=True)
class MergedHistories:
    """H histories with S runs each, measured M times.

    Measurements start 1/(ηλ) steps before the merge. The interval between measurements is 1/(8ηλ) steps.

    Args:
        pairs: (η, λ) of each history before it merges, length H.
        log_rates: Logarithm of the effective rate, averaged over layers, shape [M, H, S].
        train: Training accuracy, shape [M, H, S].
        test: Test accuracy, shape [M, H, S].
    """

    pairs: tuple[RateAndDecay, ...]
    log_rates: Floats
    train: Floats
    test: Floats


def same_equilibrium(request: Request) -> Evidence:
    """C2.6: histories that merge reach the same effective rate and the same accuracies."""
    if request.scale == "gpu":
        return _of_sweep(request)
    data = {"digits": "digits"} | ({"mnist1d": "MNIST-1D"} if request.scale == "laptop" else {})
    merged = {name: _merge(dataset, request) for dataset, name in data.items()}
    digits, *others = merged.values()
    pairs, seeds, common = digits.pairs, digits.test.shape[2], _COMMON[request.scale]
    times = np.arange(len(digits.test)) / _MEASUREMENTS - 1
    accuracy_panels = [_accuracy_panel(f"test accuracy, {name}", times, runs) for name, runs in merged.items()]
    return Evidence(
        statistics=_statistics(digits),
        panels=(_rate_panel(times, digits), *accuracy_panels),
        runs=len(pairs) * seeds * len(merged),
        setting=f"{NETWORK_WITHOUT_DATA}; histories (η, λ) = {in_words(pairs)} of {_STEPS_APART[request.scale]} steps, "
        f"each from its own initial weights, then {in_words([common])}; mean from {_FROM}/(ηλ) to {_TO}/(ηλ)",
        beside=tuple(
            replace(statistic, name=f"MNIST-1D, {statistic.name}") for runs in others for statistic in _statistics(runs)
        ),
    )


def _of_sweep(request: Request) -> Evidence:
    """Return the evidence from a stored sweep, whose schedules produce the histories."""
    if request.null:
        raise NotRun("there is no null experiment at this scale")
    sweeps = obtain(request, NETWORKS_AFTER_HISTORIES)
    assert isinstance(sweeps.study, Study)
    merged = merged_histories_of(sweeps.study)
    assert len(merged.test) == (1 + _TO) * _MEASUREMENTS
    times = np.arange(1, len(merged.test) + 1) / _MEASUREMENTS - 1
    return Evidence(
        statistics=_statistics(merged),
        panels=(_rate_panel(times, merged), _accuracy_panel("test accuracy", times, merged)),
        runs=merged.test.shape[1] * merged.test.shape[2],
        setting=sweeps.setting,
        provenance=sweeps.provenance,
    )


def merged_histories_of(study: Study) -> MergedHistories:
    """Read the histories from a sweep over schedules. Each schedule has random pieces and ends in a common (η, λ).

    Args:
        study: A stored sweep that measured weight norms.

    Raises:
        NotRun: A run diverged.
    """
    runs, measurements = completed_runs(study), norm_measurements(study)
    pairs, parts = [], []
    for text in study.spec["grid"]["schedule"]:
        schedule = schedule_from(text)
        assert isinstance(schedule, RandomPieces)
        history = runs[runs.schedule == schedule.text].sort_values("seed")
        last_piece = schedule.until - 1e-6
        rate, decay = float(history.learning_rate.iloc[0]), float(history.weight_decay.iloc[0])
        pairs.append((rate * schedule.rate_factor(last_piece), decay * schedule.decay_factor(last_piece)))
        squares = by_weight(measurements, history, "weight_norm_squared")
        log_rates = np.log(by_run(measurements, history, "learning_rate")[..., None] / squares).mean(2)
        accuracies = (by_run(measurements, history, name) for name in ("train_accuracy", "test_accuracy"))
        parts.append((log_rates, *accuracies))
    log_rates, train, test = (np.stack(part, 1) for part in zip(*parts, strict=True))
    return MergedHistories(tuple(pairs), log_rates, train, test)


def _merge(dataset: str, request: Request) -> MergedHistories:
    """Train runs with different (η, λ), then with a common (η, λ). No two runs share initial weights or batches."""
    pairs, common, seeds = _HISTORIES[request.scale], _COMMON[request.scale], request.seeds(_SEEDS)
    runs = len(pairs) * len(seeds)
    pack = ScaleInvariantPack([common], range(seeds[0], seeds[0] + runs), dataset=dataset)
    pack.change([pair for pair in pairs for _ in seeds])
    steps = int(1 / (common[0] * common[1] * _MEASUREMENTS))
    pack.train(_STEPS_APART[request.scale])
    rows = []
    for index in range((1 + _TO) * _MEASUREMENTS):
        if index == _MEASUREMENTS and not request.null:  # in the null experiment, the histories never merge
            pack.change([common] * runs)
        pack.train(steps)
        rows.append([_log_rates(pack), *pack.accuracies()])
    log_rates, train, test = (np.stack(part).reshape(-1, len(pairs), len(seeds)) for part in zip(*rows, strict=True))
    return MergedHistories(pairs, log_rates, train, test)


def _log_rates(pack: ScaleInvariantPack) -> Floats:
    """Return the logarithm of the effective rate [R], averaged over layers."""
    squares = np.stack([w.flatten(1).square().sum(1).numpy() for w in pack.trainer.state.parameters.values()])
    log_rates: Floats = np.log(np.array([run.learning_rate for run in pack.runs]) / squares).mean(0)
    return log_rates


def _statistics(merged: MergedHistories) -> tuple[Statistic, ...]:
    """Compare the histories with the largest and the smallest ηλ after the merge and, as a control, before it."""
    before, after = slice(_MEASUREMENTS), slice((1 + _FROM) * _MEASUREMENTS, None)
    products = [rate * decay for rate, decay in merged.pairs]
    largest, smallest = int(np.argmax(products)), int(np.argmin(products))

    def difference(values: Floats, window: slice) -> Floats:
        means = values[window].mean(0)
        contrast: Floats = means[largest] - means[smallest]
        return contrast

    statistics = [
        over_seeds("ratio of the effective rates of two histories", np.exp(difference(merged.log_rates, after)), "1",
                   "history with the largest ηλ / history with the smallest; η is common, so the norms agree too",
                   _WITHIN_5_PERCENT),
        over_seeds("ratio of the effective rates: control", difference(merged.log_rates, before), "1",
                   "log ratio at merging", _DETECTED),
    ]  # fmt: skip
    for name, values in (("train accuracy", merged.train), ("test accuracy", merged.test)):
        statistics += equivalence(name, difference(values, after), difference(values, before))
    return tuple(statistics)


def _rate_panel(times: Floats, merged: MergedHistories) -> Panel:
    relative = np.exp(merged.log_rates - merged.log_rates.mean(1, keepdims=True)).mean(2)
    theory = Curve("1", times[[0, -1]], np.ones(2), kind="theory")
    curves = (*_by_history(times, relative, merged), theory)
    return Panel("ηλ·steps since merging", "effective rate / geometric mean of all histories", curves, log_y=True)


def _accuracy_panel(label: str, times: Floats, merged: MergedHistories) -> Panel:
    return Panel("ηλ·steps since merging", label, _by_history(times, merged.test.mean(2), merged))


def _by_history(times: Floats, values: Floats, merged: MergedHistories) -> tuple[Curve, ...]:
    """Draw a curve for each history, from values [M, H]."""
    return tuple(
        Curve(f"(η, λ) = {in_words([pair])}", times, curve) for pair, curve in zip(merged.pairs, values.T, strict=True)
    )
