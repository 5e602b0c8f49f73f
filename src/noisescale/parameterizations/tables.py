r"""Parameterizations: tables of the initial standard deviation σ_l and the rate multiplier c_l of each parameter.

A table is applied to an unmodified module, so the forward pass does not change. SGD on θ with a forward multiplier m,
z = mθx, equals SGD on W = mθ if the rate is multiplied by c = m². The reason: Δθ = −ε∂L/∂θ = −εm∂L/∂W, and therefore
ΔW = mΔθ = −εm²∂L/∂W.

In the table, d is the fan-in of the layer, and σ0² is `init_scale`. The ratios r_in and r_out compare the fan-in and
the number of outputs of the layer with their values at the base width. They are 1 if these numbers do not grow.

| name | weight: σ_l², c_l | bias: initial value, c_l | constant initial value (gains): c_l |
|---|---|---|---|
| standard | σ0²/d, 1 | 0, 1 | 1 |
| ntk | σ0²/d, σ0²/d | 0, 1 | 1 |
| improved_standard | σ0²/d, 1/r_in | 0, 1 | 1 |
| mup | σ0²/d, r_out/r_in; a read-out (only its fan-in grows): σ0²/(d r_in), 1/r_in | 0, r_out | r_out |
| own | as in the module, 1 | as in the module, 1 | 1 |

The step of Adam does not depend on the size of the gradient, so the rate multiplier for Adam is m = √c. For mup, the
multipliers for Adam are 1/r_in for weights and 1 for biases and gains, as in Yang et al. 2022.

improved_standard is z = θx/√r_in + b with θ ~ N(0, σ0² r_in/d), so m² = 1/r_in. mup with the same rate for all
parameters has m² = r_out/r_in. In input layers, z = √r_out θx with θ ~ N(0, σ0²/(d r_out)). In hidden layers, z = θx
with θ ~ N(0, σ0²/d). In the read-out, z = θx/√r_in with θ ~ N(0, σ0²/d). Biases and gains are √r_out θ. With these
factors, the change of activations in every layer does not depend on width. Both parameterizations equal `standard` at
the base width.

Attention in the module divides scores by √d_head. mup divides by d_head, so W_Q and its bias get the factor m² = 1/r,
where r is the growth of one query. The factor applies to the rows that `query_rows` names. For torch's attention, these
rows are recognized.

An embedding is an input layer. Its input is one-hot, so d = 1 at every width.

Sources: Park, Sohl-Dickstein, Le, Smith 2019, section 2.1, for standard and ntk; Jacot, Gabriel, Hongler 2018 for the
NTK form; Sohl-Dickstein, Novak, Schoenholz, Lee 2020 for improved_standard; Yang, Hu 2021 and Yang et al. 2022 for mup
with SGD. The equivalences are derived above and tested to 1e-12.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noisescale.errors import BadInput
from noisescale.parameterizations.fan_in import Parameter, count_rows

# With the variance 2/fan-in, ReLU activations keep their size from layer to layer (He, Zhang, Ren, Sun 2015).
DEFAULT_INIT_SCALE = 2.0

# Parameterizations that need a base width, at which they equal `standard`; and parameterizations that need query rows.
WITH_BASE_WIDTH = ("improved_standard", "mup")
WITH_QUERY_ROWS = ("mup",)

_KEY = "grid.parameterization"


@dataclass(frozen=True, slots=True)
class Row:
    """The row of a table for one parameter.

    Args:
        parameter: The parameter.
        init_std: Initial standard deviation σ_l. 0 if the parameter starts at zero, None if it keeps its initial value
            in the module.
        multiplier: Factor c_l of the learning rate of SGD.
        query_factor: Factor m of the query rows, if only a part of the rows make queries. Query rows have the standard
            deviation mσ_l and the rate multiplier m²c_l.
        adam_multiplier: Factor of the learning rate of Adam. None for √c_l.
        rate_factor: Further factor of the learning rate of every optimizer, from the user.
    """

    parameter: Parameter
    init_std: float | None
    multiplier: float
    query_factor: float = 1.0
    adam_multiplier: float | None = None
    rate_factor: float = 1.0

    @property
    def name(self) -> str:
        return self.parameter.name

    def row_factors(self, factor: float) -> Tensor:
        """Return `factor` for query rows and 1 for all other rows, shape [rows, 1, …], in float64."""
        factors = torch.ones(self.parameter.shape[0], dtype=torch.float64)
        if self.query_factor != 1.0:
            for start, stop in self.parameter.query_rows:
                factors[start:stop] = factor
        return factors.view(-1, *(1,) * (len(self.parameter.shape) - 1))


Table = tuple[Row, ...]


def build_table(name: str, parameters: tuple[Parameter, ...], init_scale: float = DEFAULT_INIT_SCALE) -> Table:
    """Build the table of a parameterization.

    Args:
        name: Key of `PARAMETERIZATIONS`.
        parameters: Parameters from `describe_parameters`.
        init_scale: Initial variance σ0². Default 2 (He et al. 2015).

    Returns:
        A row for each parameter.

    Raises:
        BadInput: The name is unknown, a parameter has no rule, a tied tensor has two different rows, or the
            parameterization does not fit the growth of the module.
    """
    if name not in PARAMETERIZATIONS:
        near = difflib.get_close_matches(name, PARAMETERIZATIONS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise BadInput(_KEY, f"one of {', '.join(PARAMETERIZATIONS)}{hint}", repr(name))
    rule = PARAMETERIZATIONS[name]
    _check_growth(name, parameters)
    table = tuple(rule(parameter, init_scale) for parameter in parameters)
    for row in table:
        for tied in row.parameter.tied:
            _check_tie(name, row, rule(tied, init_scale))
    return table


def _standard(parameter: Parameter, init_scale: float) -> Row:
    return _variance_rule(parameter, init_scale, multiplier=1.0)


def _ntk(parameter: Parameter, init_scale: float) -> Row:
    multiplier = init_scale / parameter.fan_in if parameter.role == "weight" and parameter.fan_in else 1.0
    return _variance_rule(parameter, init_scale, multiplier)


def _improved_standard(parameter: Parameter, init_scale: float) -> Row:
    return _variance_rule(parameter, init_scale, 1.0 / parameter.fan_in_ratio)


def _mup(parameter: Parameter, init_scale: float) -> Row:
    if parameter.output_ratio is None:
        required = f"a rule for the parameter {parameter.name!r}: it is in no known layer, and several of its axes grow"
        raise BadInput(_KEY, f"{required}; use parameterization 'own'", f"shape {parameter.shape}")
    row = replace(
        _variance_rule(parameter, init_scale, 1.0),
        multiplier=parameter.output_ratio / parameter.fan_in_ratio,
        adam_multiplier=1.0 / parameter.fan_in_ratio,
    )
    if parameter.grows and not parameter.outputs_grow:
        row = _scale_start(row, 1.0 / math.sqrt(parameter.fan_in_ratio))
    return _absorb_in_queries(row)


def _absorb_in_queries(row: Row) -> Row:
    """Change the factor of attention from 1/√d_head to 1/d_head, by the factor m² = 1/r of the query rows."""
    parameter = row.parameter
    if not parameter.query_rows:
        return row
    factor = 1.0 / math.sqrt(parameter.query_ratio)
    if count_rows(parameter.query_rows) < parameter.shape[0]:
        return replace(row, query_factor=factor)
    multiplier, adam = row.multiplier / parameter.query_ratio, (row.adam_multiplier or 1.0) * factor
    return replace(_scale_start(row, factor), multiplier=multiplier, adam_multiplier=adam)


def _scale_start(row: Row, factor: float) -> Row:
    return row if row.init_std is None else replace(row, init_std=row.init_std * factor)


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
        f"a rule for the parameter {parameter.name!r}: it belongs to no linear, convolution or embedding layer and "
        "does not start at a constant, so its fan-in is unknown; use parameterization 'own'"
    )
    raise BadInput(_KEY, required, f"shape {parameter.shape}")


def _check_growth(name: str, parameters: tuple[Parameter, ...]) -> None:
    if name not in WITH_BASE_WIDTH:
        return
    growing = [place for parameter in parameters for place in (parameter, *parameter.tied) if place.grows]
    if not growing:
        required = (
            f"for {name!r} a model with a layer whose fan-in grows: it must differ from the same model at another width"
        )
        raise BadInput(_KEY, required, "none")
    if name == "mup" and all(place.outputs_grow for place in growing):
        required = "for 'mup' a read-out: a weight of which only the fan-in grows, to absorb the factor 1/r"
        raise BadInput(_KEY, required, "no such parameter")


def _check_tie(name: str, row: Row, other: Row) -> None:
    entries, tied_entries = (
        (tied.init_std, tied.multiplier, tied.query_factor, tied.query_factor != 1.0 and tied.parameter.query_rows)
        for tied in (row, other)
    )
    if entries != tied_entries:
        required = (
            f"one initial standard deviation and one multiplier for each tensor: {name!r} has two for the tied "
            f"{row.name!r} and {other.name!r}; untie them or use parameterization 'own'"
        )
        got = " and ".join(
            f"(σ = {tied.init_std}, c = {tied.multiplier}, m of the query rows = {tied.query_factor})"
            for tied in (row, other)
        )
        raise BadInput(_KEY, required, got)


PARAMETERIZATIONS: dict[str, Callable[[Parameter, float], Row]] = {
    "standard": _standard,
    "ntk": _ntk,
    "improved_standard": _improved_standard,
    "mup": _mup,
    "own": _own,
}
