"""What the measurements of a sweep say of scale-invariant networks with decay: norms, rotations, histories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from noisescale.claims.claim import Request
from noisescale.claims.norm_trace import Floats, NormTrace
from noisescale.claims.studies import completed, trained_at_gpu
from noisescale.store import Study
from noisescale.training.schedules import RandomPieces, schedule_from

Pairs = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Settled:
    """Runs at equilibrium, of P pairs (η, λ) with S seeds each; R = P·S, the seeds of a pair side by side.

    Arguments:
        pairs: [P]. trace: of R runs. training_loss, test_accuracy: [R], mean over late times.
    """

    pairs: Pairs
    trace: NormTrace
    training_loss: Floats
    test_accuracy: Floats

    @property
    def seeds(self) -> int:
        """S."""
        return len(self.training_loss) // len(self.pairs)


def settled_at_gpu(request: Request) -> Settled:
    """Of the sweep at the size of a GPU, from what it measured in the second half of training.

    Raises:
        NotRun: its time was up, or a run diverged.
    """
    (study,) = trained_at_gpu(request, "normalized_networks")
    return settled_of(study)


def settled_of(study: Study) -> Settled:
    """Of a sweep over rates and decays that measured norms and rotations.

    With g ⊥ w a step of plain SGD turns w by θ and leaves it at ‖w'‖, where η‖g‖ = ‖w'‖ sin θ and (1 − ηλ)‖w‖ =
    ‖w'‖ cos θ: that is where ‖g‖² and the norm before the step are taken from.

    Raises:
        NotRun: a run diverged.
    """
    runs = completed(study).sort_values(["learning_rate", "weight_decay", "seed"])
    rates, decays = (runs[name].to_numpy(dtype=np.float64) for name in ("learning_rate", "weight_decay"))
    measured = _measured(study)
    after, angles = (_looks(measured, runs, name) for name in ("weight_norm_squared", "rotation"))
    before = after * (np.cos(angles) / (1 - rates * decays)[:, None]) ** 2
    gradients = after * (np.sin(angles) / rates[:, None]) ** 2
    # The trace has one norm more than it has steps.
    trace = NormTrace(np.concatenate([before, after[-1:]]), gradients, np.zeros_like(gradients), angles)
    pairs = tuple(dict.fromkeys(zip(rates.tolist(), decays.tolist(), strict=True)))
    late = (runs[name].to_numpy(dtype=np.float64) for name in ("train_loss", "test_accuracy"))
    return Settled(pairs, trace, *late)


def merged_at_gpu(request: Request) -> tuple[Pairs, tuple[Floats, Floats, Floats]]:
    """Of the sweep at the size of a GPU, as `merged_of`.

    Raises:
        NotRun: its time was up, or a run diverged.
    """
    (study,) = trained_at_gpu(request, "normalized_histories")
    return merged_of(study)


def merged_of(study: Study) -> tuple[Pairs, tuple[Floats, Floats, Floats]]:
    """Histories and looks of a sweep over schedules of random pieces that end in one (η, λ).

    Returns:
        (η, λ) of each history's last piece; log effective rates, training and test accuracies [M, H, S], wherever norms
        were measured.

    Raises:
        NotRun: a run diverged.
    """
    runs, own = completed(study), _measured(study)
    schedules = [schedule_from(one) for one in study.spec["grid"]["schedule"]]
    pairs, parts = [], []
    for schedule in schedules:
        assert isinstance(schedule, RandomPieces)
        history = runs[runs.schedule == schedule.text].sort_values("seed")
        before = schedule.until - 1e-6
        rate, decay = float(history.learning_rate.iloc[0]), float(history.weight_decay.iloc[0])
        pairs.append((rate * schedule.rate_factor(before), decay * schedule.decay_factor(before)))
        squares = _looks(own, history, "weight_norm_squared")
        rates = _by_run(own, history, "learning_rate")
        log_rates = np.log(rates[..., None] / squares).mean(2)
        parts.append((log_rates, *(_by_run(own, history, name) for name in ("train_accuracy", "test_accuracy"))))
    log_rates, train, test = (np.stack(part, 1) for part in zip(*parts, strict=True))
    return tuple(pairs), (log_rates, train, test)


def _measured(study: Study) -> pd.DataFrame:
    """Rows of the curves at which norms were measured, with their place among them."""
    curves = study.curves()
    norms = _columns(curves, "weight_norm_squared")
    curves = curves[curves[norms].notna().all(axis=1)].sort_values("step")
    return curves.assign(place=curves.groupby("run_id").cumcount())


def _looks(measured: pd.DataFrame, runs: pd.DataFrame, quantity: str) -> Floats:
    """[T, R, L] of a quantity of every weight tensor."""
    return np.stack([_by_run(measured, runs, name) for name in _columns(measured, quantity)], 2)


def _columns(curves: pd.DataFrame, quantity: str) -> list[str]:
    return [name for name in map(str, curves.columns) if name.startswith(f"{quantity}.")]


def _by_run(measured: pd.DataFrame, runs: pd.DataFrame, column: str) -> Floats:
    """[T, R], runs in the order of their table."""
    found: Floats = measured.pivot(index="place", columns="run_id", values=column)[runs.run_id.tolist()].to_numpy(
        dtype=np.float64
    )
    return found
