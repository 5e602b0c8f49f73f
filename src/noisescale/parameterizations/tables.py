r"""How width enters: a table of (initial standard deviation σ_l, rate multiplier c_l) per parameter.

The table is applied to an unmodified module. SGD on θ with a forward multiplier m, z = mθx, is exactly SGD on
W = mθ with the rate times c = m² (Δθ = −ε∂L/∂θ = −εm∂L/∂W, hence ΔW = mΔθ = −εm²∂L/∂W), so no forward pass changes.
With d the layer's own fan-in and σ0² the `init_scale`:

| name | weight: σ_l, c_l | bias: start, c_l |
|---|---|---|
| standard | √(σ0²/d), 1 | 0, 1 |
| ntk | √(σ0²/d), σ0²/d | 0, 1 |
| own | the module's own, 1 | the module's own, 1 |

Sources: Park, Sohl-Dickstein, Le, Smith 2019, section 2.1, for the two families; Jacot, Gabriel, Hongler 2018 for the
NTK form; the equivalence is derived above and tested to 1e-12.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

from noisescale.errors import BadInput
from noisescale.parameterizations.fan_in import Parameter

# He, Zhang, Ren, Sun 2015: the variance that keeps the size of ReLU activations is 2/fan-in.
DEFAULT_INIT_SCALE = 2.0


@dataclass(frozen=True, slots=True)
class Row:
    """One parameter's line of the table.

    Arguments:
        init_std: σ_l of the module's own tensor; 0 starts it at zero; None keeps the module's own initialization.
        multiplier: c_l, which multiplies the learning rate of this tensor.
    """

    parameter: Parameter
    init_std: float | None
    multiplier: float

    @property
    def name(self) -> str:
        return self.parameter.name


Table = tuple[Row, ...]


def build_table(name: str, parameters: tuple[Parameter, ...], init_scale: float = DEFAULT_INIT_SCALE) -> Table:
    """The table of a named parameterization for these parameters.

    Arguments:
        name: "standard", "ntk" or "own". parameters: as `describe_parameters` gives them.
        init_scale: σ0². Default 2 (He et al. 2015).
    Raises:
        BadInput: an unknown name, or a parameter for which the parameterization has no rule.
    """
    if name not in PARAMETERIZATIONS:
        near = difflib.get_close_matches(name, PARAMETERIZATIONS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise BadInput("grid.parameterization", f"one of {', '.join(PARAMETERIZATIONS)}{hint}", repr(name))
    rule = PARAMETERIZATIONS[name]
    return tuple(rule(parameter, init_scale) for parameter in parameters)


def _standard(parameter: Parameter, init_scale: float) -> Row:
    return _variance_rule(parameter, init_scale, multiplier=1.0)


def _ntk(parameter: Parameter, init_scale: float) -> Row:
    multiplier = init_scale / parameter.fan_in if parameter.role == "weight" and parameter.fan_in else 1.0
    return _variance_rule(parameter, init_scale, multiplier)


def _own(parameter: Parameter, init_scale: float) -> Row:
    return Row(parameter, None, 1.0)


def _variance_rule(parameter: Parameter, init_scale: float, multiplier: float) -> Row:
    if parameter.role == "weight" and parameter.fan_in:
        return Row(parameter, math.sqrt(init_scale / parameter.fan_in), multiplier)
    if parameter.role == "bias":
        return Row(parameter, 0.0, 1.0)
    if parameter.has_constant_start:
        return Row(parameter, None, 1.0)
    required = (
        f"a rule for the parameter {parameter.name!r}: it belongs to no linear or convolution layer and does not "
        "start at a constant, so its fan-in is unknown; use parameterization 'own'"
    )
    raise BadInput("grid.parameterization", required, f"shape {parameter.shape}")


PARAMETERIZATIONS: dict[str, Callable[[Parameter, float], Row]] = {"standard": _standard, "ntk": _ntk, "own": _own}
