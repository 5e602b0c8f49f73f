"""The instruments of a pack as one table; a new one is a function of a snapshot and a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from noisescale.measure.packs.alignment import alignment
from noisescale.measure.packs.curvature import hessian_trace, lambda_max, ntk_lambda_max
from noisescale.measure.packs.noise import gradient_noise_scale, trace_covariance
from noisescale.measure.packs.snapshot import Snapshot
from noisescale.measure.packs.weights import effective_learning_rate, rotation, weight_norm_squared


@dataclass(frozen=True)
class PackInstrument:
    """A row of the table.

    Args:
        measure: Snapshot → columns of curves, [R] each: the quantity itself, with `_low` and `_high` where it is an
            estimate, or one column a weight tensor, `quantity.tensor`.
        across: Whether it looks at the step that led to the snapshot.
    """

    measure: Callable[[Snapshot], dict[str, Tensor]]
    across: bool = False


INSTRUMENTS: dict[str, PackInstrument] = {
    "lambda_max": PackInstrument(lambda_max),
    "hessian_trace": PackInstrument(hessian_trace),
    "ntk_lambda_max": PackInstrument(ntk_lambda_max),
    "trace_covariance": PackInstrument(trace_covariance),
    "gradient_noise_scale": PackInstrument(gradient_noise_scale),
    "weight_norm_squared": PackInstrument(weight_norm_squared),
    "effective_learning_rate": PackInstrument(effective_learning_rate),
    "rotation": PackInstrument(rotation, across=True),
    "alignment": PackInstrument(alignment),
}


def measure_pack(snapshot: Snapshot, quantities: Sequence[str]) -> dict[str, Tensor]:
    """Every column of the quantities asked for, [R] each, on the CPU in float64."""
    found: dict[str, Tensor] = {}
    for name in quantities:
        found |= {column: own.detach().double().cpu() for column, own in INSTRUMENTS[name].measure(snapshot).items()}
    return found
