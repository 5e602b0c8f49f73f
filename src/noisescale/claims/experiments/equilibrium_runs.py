"""Runs of scale-invariant networks at the equilibrium of their weight norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from noisescale.claims.evidence import Request
from noisescale.claims.experiments.measured_curves import by_weight, norm_measurements
from noisescale.claims.experiments.scale_invariant_pack import (
    NETWORK,
    NormTrace,
    RateAndDecay,
    ScaleInvariantPack,
    in_words,
)
from noisescale.claims.panel import Floats
from noisescale.claims.provenance import Provenance
from noisescale.claims.studies.scale_invariant import NETWORKS_WITH_DECAY
from noisescale.claims.study import completed_runs, obtain
from noisescale.store import Study
from noisescale.theory import equilibrium

_SEEDS = {"smoke": 6, "laptop": 10}
# Number of evaluations over which loss and accuracy are averaged.
_EVALUATIONS = 20
# Pairs (η, λ) with products ηλ from 0.002 to 0.02. A product that occurs twice has a large and a small rate.
_PAIRS = {
    "smoke": ((0.2, 0.05), (0.05, 0.2), (0.2, 0.1)),
    "laptop": ((0.4, 0.005), (0.1, 0.02), (0.4, 0.0125), (0.1, 0.05), (0.4, 0.05), (0.1, 0.2)),
}


@dataclass(frozen=True)
class EquilibriumRuns:
    """R = P·S runs at equilibrium: P pairs (η, λ) with S seeds each. The seeds of a pair are adjacent.

    Args:
        pairs: (η, λ) of each pair, length P.
        trace: Norms, gradients and rotations of the R runs.
        training_loss: Training loss, averaged over evaluations at equilibrium, shape [R], in nats.
        test_accuracy: Test accuracy, averaged over evaluations at equilibrium, shape [R].
        setting: Description of what was trained, as facts separated by commas.
        provenance: The sweeps and devices behind the runs.
    """

    pairs: tuple[RateAndDecay, ...]
    trace: NormTrace
    training_loss: Floats
    test_accuracy: Floats
    setting: str = ""
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def seeds(self) -> int:
        """Number S of seeds per pair."""
        return len(self.training_loss) // len(self.pairs)


def by_pair(values: Floats, pairs: Sequence[RateAndDecay]) -> Floats:
    """Arrange the values of runs by pair and seed.

    Args:
        values: Values by run, shape [P·S].
        pairs: (η, λ) of each pair, length P.

    Returns:
        Values by pair and seed, shape [P, S].
    """
    return values.reshape(len(pairs), -1)


def norms_over_theory(trace: NormTrace, pairs: Sequence[RateAndDecay], momentum: float = 0.0) -> Floats:
    """Divide the measured ‖w‖⁴ by the theoretical ‖w‖⁴ at the measured S.

    Args:
        trace: The trace of the runs.
        pairs: Pairs (η, λ) for the theory, in the order of the runs.
        momentum: Momentum for the theory.

    Returns:
        Ratios by pair and seed, averaged over layers, shape [P, S].
    """
    seeds = trace.squares.shape[1] // len(pairs)
    second_moments = trace.unit_gradients.mean(0)
    runs = zip((pair for pair in pairs for _ in range(seeds)), second_moments, strict=True)
    theory = [[equilibrium(rate, decay, s, momentum).norm ** 4 for s in layers] for (rate, decay), layers in runs]
    ratios: Floats = (trace.squares[:-1] ** 2).mean(0) / np.array(theory)
    return by_pair(ratios.mean(1), pairs)


def equilibrium_runs(request: Request) -> EquilibriumRuns:
    """Return runs at equilibrium, from a pack in this process or, at GPU scale, from a stored sweep.

    Args:
        request: The request.

    Raises:
        NotRun: The time limit of the sweep was reached, or a run diverged.
    """
    if request.scale == "gpu":
        sweeps = obtain(request, NETWORKS_WITH_DECAY)
        assert isinstance(sweeps.study, Study)
        runs = equilibrium_runs_of(sweeps.study)
        return EquilibriumRuns(
            runs.pairs, runs.trace, runs.training_loss, runs.test_accuracy, sweeps.setting, sweeps.provenance
        )
    pairs = _PAIRS[request.scale]
    pack = ScaleInvariantPack(pairs, request.seeds(_SEEDS))
    steps = window(pairs)
    pack.train(settling_time(slowest(pairs)))
    trace = pack.record(steps)
    losses_and_accuracies = []
    for _ in range(_EVALUATIONS):
        pack.train(max(1, steps // _EVALUATIONS))
        losses_and_accuracies.append(np.stack([pack.training_losses().numpy(), pack.accuracies()[1]]))
    training_loss, test_accuracy = np.mean(losses_and_accuracies, 0)
    return EquilibriumRuns(pairs, trace, training_loss, test_accuracy, f"{NETWORK}; (η, λ) = {in_words(pairs)}")


def equilibrium_runs_of(study: Study) -> EquilibriumRuns:
    """Read runs at equilibrium from a sweep over rates and decays that measured norms and rotations.

    The gradient g is orthogonal to w. A step of plain SGD therefore rotates w by an angle θ and changes its norm to
    ‖w'‖, where η‖g‖ = ‖w'‖ sin θ and (1 − ηλ)‖w‖ = ‖w'‖ cos θ. These equations give ‖g‖² and the norm ‖w‖ before the
    step.

    Args:
        study: The stored sweep.

    Raises:
        NotRun: A run diverged.
    """
    runs = completed_runs(study).sort_values(["learning_rate", "weight_decay", "seed"])
    rates, decays = (runs[name].to_numpy(dtype=np.float64) for name in ("learning_rate", "weight_decay"))
    measurements = norm_measurements(study)
    after, angles = (by_weight(measurements, runs, name) for name in ("weight_norm_squared", "rotation"))
    before = after * (np.cos(angles) / (1 - rates * decays)[:, None]) ** 2
    gradients = after * (np.sin(angles) / rates[:, None]) ** 2
    # A trace has one more norm than steps.
    trace = NormTrace(np.concatenate([before, after[-1:]]), gradients, np.zeros_like(gradients), angles)
    pairs = tuple(dict.fromkeys(zip(rates.tolist(), decays.tolist(), strict=True)))
    training_loss, test_accuracy = (runs[name].to_numpy(dtype=np.float64) for name in ("train_loss", "test_accuracy"))
    return EquilibriumRuns(pairs, trace, training_loss, test_accuracy)


def window(pairs: Sequence[RateAndDecay], factor: float = 1.0) -> int:
    """Return the length of the measurement: four relaxation times 1/(4ηλ) of the slowest pair, at least 200 steps.

    Args:
        pairs: (η, λ) of the runs.
        factor: Factor that multiplies the relaxation time; 1 − m with momentum m.
    """
    return max(200, int(4 / (4 * slowest(pairs, factor))))


def slowest(pairs: Sequence[RateAndDecay], factor: float = 1.0) -> float:
    """Return the smallest ηλ, divided by the factor of the relaxation time.

    Args:
        pairs: (η, λ) of the runs.
        factor: Factor that multiplies the relaxation time; 1 − m with momentum m.
    """
    return min(rate * decay for rate, decay in pairs) / factor


def settling_time(intrinsic: float) -> int:
    """Return the number of steps after which the norm no longer depends on its initial value.

    It is ten relaxation times 1/(4ηλ), plus a thousand steps for learning.

    Args:
        intrinsic: Intrinsic learning rate ηλ, per step.
    """
    return 1000 + int(10 / (4 * intrinsic))
