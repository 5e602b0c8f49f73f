"""Exact identities of scale-invariant networks: the recursion of the norm, and the symmetry of rescaling."""

from __future__ import annotations

import numpy as np

from noisescale.claims.criterion import below
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.scale_invariant_pack import (
    EPSILON,
    NETWORK,
    NormTrace,
    RateAndDecay,
    ScaleInvariantPack,
)
from noisescale.claims.panel import Curve, Floats, Panel
from noisescale.claims.statistic import over_seeds
from noisescale.theory import norm_recursion

_SEEDS = {"smoke": 6, "laptop": 10}
_PAIR = (0.2, 0.02)
_TORCH_EPSILON = 1e-5
# Smaller values are drawn at this value, because a logarithmic axis has no zero.
_SMALLEST = 1e-18


def recursion(request: Request) -> Evidence:
    """C2.1: ‖w‖² follows its recursion, and gradients are orthogonal to weights."""
    seeds, steps = request.seeds(_SEEDS), 60 if request.scale == "smoke" else 500
    # In the null experiment, ε = 1, and the network is not scale invariant.
    traces = {
        epsilon: ScaleInvariantPack([_PAIR], seeds, epsilon=epsilon).record(steps)
        for epsilon in (1.0 if request.null else EPSILON, _TORCH_EPSILON)
    }
    scale_invariant, torch_default = traces.values()
    step_numbers = np.arange(steps, dtype=np.float64)
    curves = tuple(
        Curve(f"ε = {epsilon:g} in the normalization", step_numbers,
              np.maximum(_errors(trace, _PAIR).max((1, 2)), _SMALLEST))
        for epsilon, trace in traces.items()
    )  # fmt: skip
    return Evidence(
        statistics=(
            over_seeds("error of the recursion", _largest_error(scale_invariant), "1",
                       "largest relative error over steps and layers", below(1e-8)),
            over_seeds("defect of orthogonality", _orthogonality_defect(scale_invariant), "1",
                       "largest |⟨g, w⟩|/(‖g‖‖w‖)", below(1e-6)),
        ),
        panels=(Panel("step", "relative error of the recursion for ‖w‖²", curves, log_y=True),),
        runs=len(seeds) * 2,
        setting=f"{NETWORK}; η = 0.2, λ = 0.02, {steps} steps",
        reported={
            "error of the recursion at ε = 1e-5": float(_largest_error(torch_default).max()),
            "defect of orthogonality at ε = 1e-5": float(_orthogonality_defect(torch_default).max()),
        },
    )  # fmt: skip


def symmetry(request: Request) -> Evidence:
    """C2.2: the change (w, η, λ) → (cw, c²η, λ/c²) leaves the outputs of the network the same."""
    seeds, steps, interval, c = request.seeds(_SEEDS), 50, 5, 3.0
    power = 1.0 if request.null else 2.0  # in the null experiment, the rate is multiplied by c, as the weights are
    rescaled = (_PAIR[0] * c**power, _PAIR[1] / c**power)
    pack = ScaleInvariantPack([_PAIR, rescaled], seeds)
    pack.scale([1.0] * len(seeds) + [c] * len(seeds))
    inputs = pack.inputs[:200]
    rows = []
    for _ in range(steps // interval):
        pack.train(interval)
        outputs = pack.outputs(inputs)
        rows.append((outputs[: len(seeds)] - outputs[len(seeds) :]).abs().amax((1, 2)).numpy())
    differences = np.array(rows)
    step_numbers = np.arange(interval, steps + 1, float(interval))
    curve = Curve("c = 3", step_numbers, np.maximum(differences.max(1), _SMALLEST))
    return Evidence(
        statistics=(
            over_seeds("difference of outputs", differences.max(0), "1", "largest |Δ output| on 200 inputs",
                       below(1e-6)),
        ),
        panels=(Panel("step", "largest difference of outputs", (curve,), log_y=True),),
        runs=2 * len(seeds),
        setting=f"{NETWORK}; c = 3, η = 0.2, λ = 0.02, {steps} steps",
        reported={"largest output": float(outputs.abs().max())},
    )  # fmt: skip


def _errors(trace: NormTrace, pair: RateAndDecay) -> Floats:
    """Return the relative error [T, R, L] of the recursion in each step."""
    before, after = trace.squares[:-1], trace.squares[1:]
    predicted = norm_recursion(before, trace.unit_gradients[None], *pair)[1]
    errors: Floats = np.abs(after / predicted - 1)
    return errors


def _largest_error(trace: NormTrace) -> Floats:
    largest: Floats = _errors(trace, _PAIR).max((0, 2))
    return largest


def _orthogonality_defect(trace: NormTrace) -> Floats:
    defect: Floats = (np.abs(trace.radial) / np.sqrt(trace.unit_gradients)).max((0, 2))
    return defect
