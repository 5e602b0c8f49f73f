"""Experiments on scale-invariant networks with decay: recursion, symmetry, equilibrium, cuts, momentum."""

from __future__ import annotations

import math

import numpy as np
import torch

from noisescale.claims.agreement import farthest_level
from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import Statistic, below, farthest, over_seeds, same, within
from noisescale.claims.norm_trace import Bench, Floats, NormTrace, seeds_of
from noisescale.claims.normalized_networks import Settled, settled_at_gpu
from noisescale.theory import equilibrium, norm_recursion

# Margins of `docs/verdicts.md`: 5 % at equilibrium, a quarter for slopes.
_AT_EQUILIBRIUM, _OF_SLOPES = 0.05, 0.25
_SEEDS = {"smoke": 6, "laptop": 10}
_LOOKS = 20
_NETWORK = "MLP of two hidden layers of width 32, batch norm without gains, fixed read-out, digits, B = 32, float64"

# The form with momentum holds for gradients that are independent from step to step; with true labels successive ones
# have a signal in common, and the ratio was 0.85 on the seeds on which this was developed.
_LABEL_NOISE = 0.9

# (η, λ): products from 0.0005 to 0.02, each reached by a large and by a small rate where there are two.
_PAIRS = {
    "smoke": ((0.2, 0.05), (0.05, 0.2), (0.2, 0.1)),
    "laptop": ((0.4, 0.005), (0.1, 0.02), (0.4, 0.0125), (0.1, 0.05), (0.4, 0.05), (0.1, 0.2)),
}


def recursion(request: Request) -> Evidence:
    """C2.1: ‖w‖² follows its recursion, and gradients stand at right angles to weights."""
    pairs, seeds, steps = ((0.2, 0.02),), seeds_of(request, _SEEDS), 60 if request.scale == "smoke" else 500
    # Taken out: at ε = 1 in the denominator a network is not scale invariant at all.
    traces = {
        epsilon: Bench(pairs, seeds, epsilon=epsilon).record(steps)
        for epsilon in ((1.0, 1e-5) if request.null else (1e-11, 1e-5))
    }
    first, torch_default = traces.values()
    error, angle = _recursion_error(first, *pairs[0]), _defect(first)
    at = np.arange(steps, dtype=np.float64)
    panel = Panel(
        "step", "relative error of ‖w‖² against the recursion",
        tuple(
            Curve(f"ε = {epsilon:g} in the normalization", at, np.maximum(_errors(own, *pairs[0]).max((1, 2)), 1e-18))
            for epsilon, own in traces.items()
        ),
        log_y=True,
    )  # fmt: skip
    return Evidence(
        (
            over_seeds("error of the recursion", error, "1", "largest relative error of a step, layers", below(1e-8)),
            over_seeds("defect", angle, "1", "largest |⟨g, w⟩|/(‖g‖‖w‖)", below(1e-6)),
        ),
        (panel,), len(seeds) * 2, f"{_NETWORK}; η = 0.2, λ = 0.02, {steps} steps",
        {
            "error of the recursion at ε = 1e-5": float(_recursion_error(torch_default, *pairs[0]).max()),
            "defect at ε = 1e-5": float(_defect(torch_default).max()),
        },
    )  # fmt: skip


def symmetry(request: Request) -> Evidence:
    """C2.2: (w, η, λ) → (cw, c²η, λ/c²) leaves every output as it is."""
    seeds, steps, c = seeds_of(request, _SEEDS), 50, 3.0
    power = 1.0 if request.null else 2.0  # taken out: the rate is scaled as the weights are
    base = (0.2, 0.02)
    other = (base[0] * c**power, base[1] / c**power)
    bench = Bench([base, other], seeds)
    bench.scale([1.0] * len(seeds) + [c] * len(seeds))
    inputs = bench.inputs[:200]
    differences = []
    for _ in range(steps // 5):
        bench.skip(5)
        outputs = bench.outputs(inputs)
        differences.append((outputs[: len(seeds)] - outputs[len(seeds) :]).abs().amax((1, 2)).numpy())
    found = np.array(differences)
    size = float(outputs.abs().max())
    panel = Panel(
        "step", "largest difference of outputs",
        (Curve("c = 3", np.arange(5, steps + 1, 5.0), np.maximum(found.max(1), 1e-18)),), log_y=True,
    )  # fmt: skip
    statistic = over_seeds("difference of outputs", found.max(0), "1", "largest |Δ output| on 200 inputs", below(1e-6))
    return Evidence(
        (statistic,), (panel,), 2 * len(seeds), f"{_NETWORK}; c = 3, η = 0.2, λ = 0.02, {steps} steps",
        {"largest output": size},
    )  # fmt: skip


def equilibrium_norm(request: Request) -> Evidence:
    """C2.3: ‖w‖⁴ = ηS/(λ(2 − ηλ)) with S measured."""
    found = _settled_runs(request)
    pairs = found.pairs
    # Taken out: the theory of a network with another rate and decay.
    claimed = (*pairs[-1:], *pairs[:-1]) if request.null else pairs
    by_pair = _by_pair(_over_theory(found.trace, claimed, found.seeds, 0.0).mean(1), pairs)
    products = np.array([rate * decay for rate, decay in pairs])
    order = np.argsort(products)
    means, spread = by_pair.mean(1), by_pair.std(1, ddof=1)
    panel = Panel(
        "intrinsic learning rate ηλ", "‖w‖⁴ over ηS/(λ(2 − ηλ))",
        (
            Curve("measured, ± standard deviation of seeds", products[order], means[order],
                  (means - spread)[order], (means + spread)[order]),
            Curve("1", products[order][[0, -1]], np.ones(2), kind="theory"),
        ),
        log_x=True,
    )  # fmt: skip
    return Evidence(
        (over_seeds("‖w‖⁴ over theory", farthest(by_pair, 1.0), "1", "mean over layers, of the (η, λ) farthest off",
                   within(1, _AT_EQUILIBRIUM)),),
        (panel,), len(pairs) * found.seeds, _setting(pairs),
    )  # fmt: skip


def rotation_of_products(request: Request) -> Evidence:
    """C2.4: the effective rate and the rotation depend on ηλ alone."""
    found = _settled_runs(request)
    pairs, trace = found.pairs, found.trace
    training_loss, test_accuracy = (_by_pair(own, pairs) for own in (found.training_loss, found.test_accuracy))
    rotation = _by_pair(np.sqrt((trace.rotations**2).mean(0)).mean(1), pairs)
    products = np.array([rate * decay for rate, decay in pairs])
    rates = np.array([rate for rate, _ in pairs])
    effective = _by_pair((_rates(pairs, found.seeds)[:, None] / trace.squares.mean(0)).mean(1), pairs)
    if request.null:  # taken out: every product is compared with that of another pair
        products = np.roll(products, 1)
    ratios = rotation / np.array([[_rotation(own)] for own in products])
    ratio = farthest(ratios, 1.0)
    # At given ηλ the rate adds nothing: its exponent beside that of ηλ, by least squares over pairs, seed by seed.
    design = np.stack([np.ones(len(pairs)), np.log(products), np.log(rates)], 1)
    exponents = np.linalg.lstsq(design, np.log(effective), rcond=None)[0]
    panel = Panel(
        "intrinsic learning rate ηλ", "rotation a step, radians",
        (
            *(
                Curve(f"η = {rate:g}, ± standard deviation of seeds", products[rates == rate],
                      *_with_spread(rotation[rates == rate]))
                for rate in sorted(set(rates))
            ),
            Curve("√(2ηλ)", np.sort(products), np.array([_rotation(own) for own in np.sort(products)]), kind="theory"),
        ),
        log_x=True, log_y=True,
    )  # fmt: skip
    return Evidence(
        (
            over_seeds("rotation over √(2ηλ)", ratio, "1", "root mean square angle, of the (η, λ) farthest off",
                      within(1, _AT_EQUILIBRIUM)),
            over_seeds(
                "exponent of η", exponents[2], "1", "of η/‖w‖² in η at equal ηλ; 0 where the product alone decides",
                within(0, _OF_SLOPES),
            ),
            *_at_equal_products("training loss", training_loss, products, "nats"),
            *_at_equal_products("test accuracy", test_accuracy, products, "fraction"),
        ),
        (panel, _against_products("training loss, nats", training_loss, products, rates),
         _against_products("test accuracy", test_accuracy, products, rates)),
        len(pairs) * found.seeds, _setting(pairs), {"exponent of ηλ": float(exponents[1].mean())},
    )  # fmt: skip


def _settled_runs(request: Request) -> Settled:
    """Runs at equilibrium and what they found there; at the size of a GPU those of a sweep."""
    if request.scale == "gpu":
        return settled_at_gpu(request)
    pairs, seeds = _PAIRS[request.scale], seeds_of(request, _SEEDS)
    bench = _settled_bench(pairs, seeds, 0.0)
    trace = bench.record(_window(pairs))
    return Settled(pairs, trace, *_found_at_equilibrium(bench, pairs))


def _at_equal_products(name: str, values: Floats, products: Floats, unit: str) -> tuple[Statistic, Statistic]:
    """Whether a metric [pairs, S] is the same for both rates of each ηλ, beside that of the two largest ηλ."""
    places = [np.flatnonzero(np.isclose(products, own)) for own in np.unique(products.round(12))]
    control = values[places[-1]].mean(0) - values[places[-2]].mean(0)
    return farthest_level(
        [
            same(f"{name} at ηλ = {products[own[0]]:g}, two rates", values[own[0]] - values[own[1]], control, unit)
            for own in places
            if len(own) > 1
        ]
    )


def _found_at_equilibrium(bench: Bench, pairs: tuple[tuple[float, float], ...]) -> tuple[Floats, Floats]:
    """Training loss and test accuracy [R], mean over looks at the runs as they go on."""
    labels, rows = bench.data.y_train, []
    for _ in range(_LOOKS):
        bench.skip(max(1, _window(pairs) // _LOOKS))
        logs = bench.outputs(bench.inputs).log_softmax(2)
        loss = -logs[:, torch.arange(len(labels)), labels].mean(1).numpy()
        rows.append(np.stack([loss, bench.accuracies()[1]]))
    training_loss, test_accuracy = np.mean(rows, 0)
    return training_loss, test_accuracy


def _against_products(label: str, values: Floats, products: Floats, rates: Floats) -> Panel:
    curves = (
        Curve(f"η = {rate:g}, ± standard deviation of seeds", products[rates == rate],
              *_with_spread(values[rates == rate]))
        for rate in sorted(set(rates))
    )  # fmt: skip
    return Panel("intrinsic learning rate ηλ", label, tuple(curves), log_x=True)


def _with_spread(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Means [M] of [M, S] with ± standard deviations of seeds."""
    means, spread = values.mean(1), values.std(1, ddof=1)
    return means, means - spread, means + spread


def cuts(request: Request) -> Evidence:
    """C2.11: a cut of η acts at once and is half undone; a cut of λ acts slowly; at equal S both end at 1/√k."""
    seeds, k = seeds_of(request, _SEEDS), 4.0
    rate, decay = 0.4, 0.05
    bench = Bench([(rate, decay)] * 3, seeds)
    bench.skip(_settled(rate * decay))
    before = bench.record(200)
    cut = k if not request.null else 1.0  # taken out: nothing is cut
    pairs = [(rate / cut, decay), (rate, decay / cut), (rate, decay)]
    bench.change([pair for pair in pairs for _ in seeds])
    relaxation = equilibrium(rate, decay / k, 1.0).relaxation
    steps = int(4 / relaxation)
    after = bench.record(steps + 200)
    effective_before = rate / before.squares.mean((0, 2)).reshape(3, -1)
    etas = np.array([pair[0] for pair in pairs])[:, None]
    effective = etas[None] / after.squares.mean(2).reshape(steps + 201, 3, -1)
    relative = effective / effective_before[None]
    # Against the twin that goes on as it was, so that what training itself does to S is out of it.
    against = relative / relative[:, 2:]
    at_once, end = against[1], against[-200:].mean(0)
    # The effective rate is √(2ηλ/S): what the cuts do to S is measured too.
    second = (after.gradients * after.squares[:-1])[-200:].mean((0, 2)).reshape(3, -1)
    with_s = math.sqrt(k) * end[:2] * np.sqrt(second[:2] / second[2])
    x = np.asarray(np.arange(len(relative)) * relaxation, dtype=np.float64)
    panel = Panel(
        "4ηλ/k·steps since the cut", "effective learning rate, of the uncut twin's",
        (
            Curve("η cut to a quarter", x, against[:, 0].mean(1)),
            Curve("λ cut to a quarter", x, against[:, 1].mean(1)),
            Curve("1/√k, at equal S", x[[0, -1]], np.full(2, 1 / math.sqrt(k)), kind="theory"),
        ),
        log_y=True,
    )  # fmt: skip
    return Evidence(
        (
            over_seeds("η cut, at once, times k", k * at_once[0], "1", "effective rate", within(1, _AT_EQUILIBRIUM)),
            over_seeds("λ cut, at once", at_once[1], "1", "effective rate", within(1, _AT_EQUILIBRIUM)),
            over_seeds("ends of both", end[0] / end[1], "1", "η cut over λ cut", within(1, _AT_EQUILIBRIUM)),
            *(over_seeds(f"end of the cut of {cut}, times √(k·S over the twin's)", own, "1", "effective rate",
                         within(1, _AT_EQUILIBRIUM)) for cut, own in zip("ηλ", with_s, strict=True)),
        ),
        (panel,), 3 * len(seeds), f"{_NETWORK}; η = {rate:g}, λ = {decay:g}, k = 4",
        beside=tuple(
            over_seeds(f"end of the cut of {cut}, times √k", own, "1", "effective rate; S moves too",
                       within(1, _AT_EQUILIBRIUM)) for cut, own in zip("ηλ", math.sqrt(k) * end[:2], strict=True)
        ),
    )  # fmt: skip


def with_momentum(request: Request) -> Evidence:
    """C2.12: with heavy-ball momentum m the norm has (1 − m)(2 − ηλ/(1 + m)), the rotation √(2ηλ/(1 + m))."""
    momentum = 0.9
    pairs, seeds = ((0.05, 0.02), (0.02, 0.05)), seeds_of(request, {"smoke": 16, "laptop": 20})
    claimed = 0.0 if request.null else momentum  # taken out: the formula without momentum
    trace = _at_equilibrium(pairs, seeds, momentum, 1 - momentum)
    ratio = farthest(_by_pair(_over_theory(trace, pairs, len(seeds), claimed).mean(1), pairs), 1.0)
    theory = [[_rotation(own[0] * own[1], claimed)] for own in pairs for _ in seeds]
    rotation = np.sqrt((trace.rotations**2).mean(0)) / np.array(theory)
    turned = farthest(_by_pair(rotation.mean(1), pairs), 1.0)
    x = np.array([own[0] * own[1] for own in pairs])
    panel = Panel(
        "seed, counted from 0", "measured over theory",
        (
            Curve("‖w‖⁴", np.arange(len(seeds), dtype=float), ratio),
            Curve("rotation", np.arange(len(seeds), dtype=float), turned),
            Curve("1", np.array([0.0, len(seeds) - 1.0]), np.ones(2), kind="theory"),
        ),
        whole_x=True,
    )  # fmt: skip
    return Evidence(
        (
            over_seeds("‖w‖⁴ over theory", ratio, "1", "mean over layers, of the pair farthest off",
                       within(1, _AT_EQUILIBRIUM)),
            over_seeds("rotation over theory", turned, "1", "mean over layers, of the pair farthest off",
                       within(1, _AT_EQUILIBRIUM)),
        ),
        (panel,), len(pairs) * len(seeds), f"{_setting(pairs)}; m = {momentum:g}; nine labels of ten redrawn",
        {"ηλ": float(x.mean())},
    )  # fmt: skip


def _over_theory(trace: NormTrace, pairs: tuple[tuple[float, float], ...], seeds: int, momentum: float) -> Floats:
    """‖w‖⁴ of every run and layer [R, L] over what theory makes of its own S."""
    second = (trace.gradients * trace.squares[:-1]).mean(0)
    runs = zip(_rates(pairs, seeds), _decays(pairs, seeds), second, strict=True)
    theory = [[equilibrium(rate, decay, s, momentum).norm ** 4 for s in row] for rate, decay, row in runs]
    found: Floats = (trace.squares[:-1] ** 2).mean(0) / np.array(theory)
    return found


def _at_equilibrium(
    pairs: tuple[tuple[float, float], ...], seeds: list[int], momentum: float, factor: float = 1.0
) -> NormTrace:
    """A window of four relaxation times after ten of them, both of the slowest pair."""
    return _settled_bench(pairs, seeds, momentum, factor).record(_window(pairs, factor))


def _settled_bench(
    pairs: tuple[tuple[float, float], ...], seeds: list[int], momentum: float, factor: float = 1.0
) -> Bench:
    bench = Bench(pairs, seeds, momentum=momentum, label_noise=_LABEL_NOISE if momentum else 0.0)
    bench.skip(_settled(_slowest(pairs, factor)))
    return bench


def _window(pairs: tuple[tuple[float, float], ...], factor: float = 1.0) -> int:
    return max(200, int(4 / (4 * _slowest(pairs, factor))))


def _slowest(pairs: tuple[tuple[float, float], ...], factor: float) -> float:
    return min(rate * decay for rate, decay in pairs) / factor


def _settled(intrinsic: float) -> int:
    """Steps after which the norm has forgotten where it began: ten relaxation times, and a thousand for learning."""
    return 1000 + int(10 / (4 * intrinsic))


def _rotation(product: float, momentum: float = 0.0) -> float:
    """Of theory at ηλ, which neither η nor S enters."""
    return equilibrium(1.0, product, 1.0, momentum).rotation


def _errors(trace: NormTrace, rate: float, decay: float) -> Floats:
    """Relative errors [T, R, L] of single steps."""
    before, after = trace.squares[:-1], trace.squares[1:]
    predicted = norm_recursion(before, (trace.gradients * before)[None], rate, decay)[1]
    found: Floats = np.abs(after / predicted - 1)
    return found


def _recursion_error(trace: NormTrace, rate: float, decay: float) -> Floats:
    found: Floats = _errors(trace, rate, decay).max((0, 2))
    return found


def _defect(trace: NormTrace) -> Floats:
    found: Floats = (np.abs(trace.radial) / np.sqrt(trace.gradients * trace.squares[:-1])).max((0, 2))
    return found


def _by_pair(values: Floats, pairs: tuple[tuple[float, float], ...]) -> Floats:
    """[pairs·S] as [pairs, S]."""
    return values.reshape(len(pairs), -1)


def _rates(pairs: tuple[tuple[float, float], ...], seeds: int) -> Floats:
    return np.repeat([rate for rate, _ in pairs], seeds)


def _decays(pairs: tuple[tuple[float, float], ...], seeds: int) -> Floats:
    return np.repeat([decay for _, decay in pairs], seeds)


def _setting(pairs: tuple[tuple[float, float], ...]) -> str:
    return f"{_NETWORK}; (η, λ) = {', '.join(f'({rate:g}, {decay:g})' for rate, decay in pairs)}"
