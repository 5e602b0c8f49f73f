"""What a pack will cost, to size packs, to start the longest first and to answer `--dry-run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from noisescale.runs import Run

# Measured on 2 cores of a 2.6 GHz class machine with one thread a worker (benchmarks/results/speed.md): a step's
# overhead, and the rate of small matrix products. They size and order packs; no result depends on them.
SECONDS_PER_STEP = 70e-6
OPERATIONS_PER_SECOND = 2.5e10

# Kept for a run of a pack: parameters, gradients, update and rates in float32, and the activations of a batch.
_COPIES = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides a pack's cost.

    Arguments:
        parameters: numbers in one run's model. activations: numbers in one example's activations.
        examples: evaluated per evaluation (training + validation + test).
    """

    parameters: int
    activations: int
    examples: int


def seconds(runs: Sequence[Run], shape: Shape) -> float:
    """Estimated time of one pack on one worker, in seconds."""
    first, count = runs[0], len(runs)
    training = first.steps * (
        SECONDS_PER_STEP + 6 * count * first.batch_size * shape.parameters / OPERATIONS_PER_SECOND
    )
    evaluation = first.evaluations * 2 * count * shape.examples * shape.parameters / OPERATIONS_PER_SECOND
    return training + (evaluation if first.purpose == "sweep" else 0.0)


def memory(runs: Sequence[Run], shape: Shape) -> int:
    """Estimated memory of one pack, in bytes."""
    per_run = _COPIES * shape.parameters + 3 * runs[0].batch_size * shape.activations
    return len(runs) * per_run * (8 if runs[0].precision == "float64" else 4)
