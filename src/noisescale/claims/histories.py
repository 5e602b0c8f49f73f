"""What remains of a history once the rate and the decay are the same for all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from noisescale.claims.claim import Curve, Evidence, NotRun, Panel, Request
from noisescale.claims.criterion import Statistic, above, over_seeds, same, within
from noisescale.claims.norm_trace import Bench, Floats, seeds_of
from noisescale.claims.normalized_networks import merged_at_gpu

# The margin of `docs/verdicts.md` at equilibrium; the histories must differ by several times that when they merge.
_AT_EQUILIBRIUM, _DETECTED = 0.05, 0.2
_SEEDS = {"smoke": 8, "laptop": 10}
# (η, λ): products that differ by a factor of 16, each reached from another rate; and what follows for all.
_HISTORIES = {
    "smoke": ((0.8, 0.02), (0.1, 0.01)),
    "laptop": ((0.8, 0.02), (0.1, 0.01), (0.05, 0.32), (0.4, 0.01)),
}
_COMMON = {"smoke": (0.2, 0.04), "laptop": (0.2, 0.02)}
_ALONE = {"smoke": 500, "laptop": 2000}
# In units of 1/(ηλ), of four relaxation times each: looks at the runs, and the window that is compared.
_LOOKS, _FROM, _TO = 8, 4, 5
_SETTING = "MLP of two hidden layers of width 32, batch norm without gains, fixed read-out, B = 32, float64"


@dataclass(frozen=True)
class _Merged:
    """Of H histories and S groups of runs, one of each history, at every 1/8 of 1/(ηλ), from 1/(ηλ) before merging.

    Arguments:
        log_rates: [M, H, S], log of the effective rate, mean over layers. train, test: [M, H, S], accuracies.
    """

    log_rates: Floats
    train: Floats
    test: Floats


def same_equilibrium(request: Request) -> Evidence:
    """C2.6: histories that differ end in the same effective rate and the same accuracies."""
    if request.scale == "gpu":
        return _of_sweeps(request)
    seeds, alone, common = seeds_of(request, _SEEDS), _ALONE[request.scale], _COMMON[request.scale]
    histories = _HISTORIES[request.scale]
    found = _merge("digits", histories, seeds, alone, common, request.null)
    harder = _merge("mnist1d", histories, seeds, alone, common, request.null) if request.scale == "laptop" else None
    beside: tuple[Statistic, ...] = ()
    if harder is not None:
        beside = tuple(replace(one, name=f"MNIST-1D, {one.name}") for one in _statistics(harder, histories))
    names = [f"(η, λ) = ({rate:g}, {decay:g})" for rate, decay in histories]
    x = np.arange(len(found.test)) / _LOOKS - 1
    panels = [_panel(names, x, found.log_rates, "effective rate over that of all histories")]
    panels += [
        Panel("ηλ·steps since merging", f"test accuracy, {data}",
              tuple(Curve(name, x, own) for name, own in zip(names, runs.test.mean(2).T, strict=True)))
        for data, runs in (("digits", found), ("MNIST-1D", harder)) if runs is not None
    ]  # fmt: skip
    return Evidence(
        _statistics(found, histories), tuple(panels), len(histories) * len(seeds) * (1 if harder is None else 2),
        f"{_SETTING}; histories (η, λ) = {', '.join(f'({rate:g}, {decay:g})' for rate, decay in histories)} of "
        f"{alone} steps, each from other initial weights, then ({common[0]:g}, {common[1]:g}); "
        f"mean from {_FROM}/(ηλ) to {_TO}/(ηλ)",
        beside=beside,
    )  # fmt: skip


def _of_sweeps(request: Request) -> Evidence:
    """The same of the sweep of a GPU, with histories as its schedules."""
    if request.null:
        raise NotRun("no null at this scale")
    histories, looks = merged_at_gpu(request)
    found = _Merged(*looks)
    assert len(found.test) == (1 + _TO) * _LOOKS
    names = [f"(η, λ) = ({rate:g}, {decay:g})" for rate, decay in histories]
    x = np.arange(1, len(found.test) + 1) / _LOOKS - 1
    curves = tuple(Curve(name, x, own) for name, own in zip(names, found.test.mean(2).T, strict=True))
    return Evidence(
        _statistics(found, histories),
        (_panel(names, x, found.log_rates, "effective rate over that of all histories"),
         Panel("ηλ·steps since merging", "test accuracy", curves)),
        found.test.shape[1] * found.test.shape[2], "histories, then a common (η, λ)",
    )  # fmt: skip


def _statistics(found: _Merged, histories: tuple[tuple[float, float], ...]) -> tuple[Statistic, ...]:
    """Of the histories with the largest and the smallest ηλ, at merging as the control and in the window."""
    before, after = slice(_LOOKS), slice((1 + _FROM) * _LOOKS, None)
    products = [rate * decay for rate, decay in histories]
    rates, at_merging = (_extremes(found.log_rates[own].mean(0), products) for own in (after, before))
    statistics = [
        over_seeds("effective rate, one history over the other", np.exp(rates), "1",
                   "largest over smallest ηλ before; η is common, so the norm agrees too", within(1, _AT_EQUILIBRIUM)),
        over_seeds("effective rate: control", at_merging, "1", "log ratio at merging", above(_DETECTED)),
    ]  # fmt: skip
    for name, values in (("train accuracy", found.train), ("test accuracy", found.test)):
        statistics += same(
            name, _extremes(values[after].mean(0), products), _extremes(values[before].mean(0), products)
        )
    return tuple(statistics)


def _extremes(values: Floats, products: list[float]) -> Floats:
    """[S] of the history of [H, S] with the largest ηλ, less that of the smallest; named before anything is seen."""
    found: Floats = values[int(np.argmax(products))] - values[int(np.argmin(products))]
    return found


def _merge(
    dataset: str,
    histories: tuple[tuple[float, float], ...],
    seeds: list[int],
    alone: int,
    common: tuple[float, float],
    null: bool,
) -> _Merged:
    """Histories apart, then together; each run has initial weights and batches of its own."""
    count, kinds = len(seeds), len(histories)
    # Seeds of a set are consecutive: the histories' groups follow each other.
    bench = Bench([common], range(seeds[0], seeds[0] + kinds * count), dataset=dataset)
    own = [pair for pair in histories for _ in seeds]
    bench.change(own)
    between = int(1 / (common[0] * common[1] * _LOOKS))
    bench.skip(alone)
    rows = []
    for look in range((1 + _TO) * _LOOKS):
        if look == _LOOKS and not null:  # taken out: the histories go on as they were
            bench.change([common] * len(own))
        bench.skip(between)
        rows.append(_look(bench, kinds))
    return _Merged(*(np.stack(part) for part in zip(*rows, strict=True)))


def _look(bench: Bench, kinds: int) -> tuple[Floats, Floats, Floats]:
    squares = np.stack([own.flatten(1).square().sum(1).numpy() for own in bench.trainer.state.parameters.values()])
    log_rates = np.log(np.array([run.learning_rate for run in bench.runs]) / squares).mean(0)
    train, test = bench.accuracies()
    return log_rates.reshape(kinds, -1), train.reshape(kinds, -1), test.reshape(kinds, -1)


def _panel(names: list[str], x: Floats, log_rates: Floats, label: str) -> Panel:
    relative = np.exp(log_rates - log_rates.mean(1, keepdims=True)).mean(2)
    curves = tuple(Curve(name, x, own) for name, own in zip(names, relative.T, strict=True))
    theory = Curve("1", x[[0, -1]], np.ones(2), kind="theory")
    return Panel("ηλ·steps since merging", label, (*curves, theory), log_y=True)
