"""The normalized noise scale of every parameter of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from noisescale.parameterizations.fan_in import read_out
from noisescale.parameterizations.tables import Table


def layer_rows(table: Table, variances: Mapping[str, float], noise_scale: float) -> list[dict[str, Any]]:
    """Compute the normalized noise scale ḡ_l = g c_l/σ_l² of each parameter. It is the same for W and for θ in W = mθ.

    Args:
        table: The parameterization's table of the run.
        variances: σ_l² of the parameters that keep their initial value in the module, by name, from
            `initial_variances`.
        noise_scale: Noise scale g, in the unit of examples times learning rate.

    Returns:
        A row for each parameter with `layer`, `fan_in` d_l, `init_variance` σ_l², `multiplier` c_l (times the user's
        factor of the rate), `normalized_noise_scale` ḡ_l (NaN if the parameter starts at a constant) and `is_reference`
        (true for the last weight whose fan-in grows). If a tensor has query rows, σ_l² and c_l are the values of its
        other rows. ḡ_l is the same in all rows.

    Source:
        Park, Sohl-Dickstein, Le, Smith 2019: weights measured in units of their initial standard deviation.
    """
    reference = read_out(tuple(row.parameter for row in table))
    rows = []
    for row in table:
        multiplier = row.multiplier * row.rate_factor
        variance = variances[row.name] if row.init_std is None else row.init_std**2
        rows.append(
            {
                "layer": row.name,
                "fan_in": row.parameter.fan_in,
                "init_variance": variance,
                "multiplier": multiplier,
                "normalized_noise_scale": noise_scale * multiplier / variance if variance > 0 else math.nan,
                "is_reference": reference is not None and row.name == reference.name,
            }
        )
    return rows
