"""The table of instruments for packs. To add an instrument, write a function of a snapshot and add one row."""

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
    """An instrument for packs.

    Args:
        measure: A function that returns the columns for the curves of runs, shape [R] each. There is one column for the
            quantity, with further columns `_low` and `_high` if it is an estimate, or one column `quantity.tensor` for
            each weight tensor.
        across: Whether the instrument needs the parameters before the last step.
        curvature: Whether the instrument needs the second derivatives of the module.
    """

    measure: Callable[[Snapshot], dict[str, Tensor]]
    across: bool = False
    curvature: bool = False


INSTRUMENTS: dict[str, PackInstrument] = {
    "lambda_max": PackInstrument(lambda_max, curvature=True),
    "hessian_trace": PackInstrument(hessian_trace, curvature=True),
    "ntk_lambda_max": PackInstrument(ntk_lambda_max),
    "trace_covariance": PackInstrument(trace_covariance),
    "gradient_noise_scale": PackInstrument(gradient_noise_scale),
    "weight_norm_squared": PackInstrument(weight_norm_squared),
    "effective_learning_rate": PackInstrument(effective_learning_rate),
    "rotation": PackInstrument(rotation, across=True),
    "alignment": PackInstrument(alignment),
}


def measure_pack(snapshot: Snapshot, quantities: Sequence[str]) -> dict[str, Tensor]:
    """Measure quantities of a pack.

    Args:
        snapshot: The pack at one step of training.
        quantities: Names in `INSTRUMENTS`.

    Returns:
        The values by column name, shape [R] each, on the CPU in float64.
    """
    columns: dict[str, Tensor] = {}
    for name in quantities:
        measured = INSTRUMENTS[name].measure(snapshot)
        columns |= {column: values.detach().double().cpu() for column, values in measured.items()}
    return columns
