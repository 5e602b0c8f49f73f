"""`parameterize`: a parameterization for anybody's `torch.optim.SGD`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.parameterizations.fan_in import describe_parameters
from noisescale.parameterizations.initialize import initial_parameters
from noisescale.parameterizations.tables import DEFAULT_INIT_SCALE, build_table


class ParameterGroups(list[dict[str, Any]]):
    """Parameter groups for an optimizer, and the model whose parameters they hold.

    Arguments:
        groups: as `torch.optim.SGD` takes them. model: the re-initialized model.
    """

    def __init__(self, groups: list[dict[str, Any]], model: nn.Module) -> None:
        super().__init__(groups)
        self.model = model


def parameterize(
    model: nn.Module,
    reference: nn.Module,
    name: str,
    learning_rate: float,
    *,
    momentum: float | None = None,
    weight_decay: float = 0.0,
    init_scale: float = DEFAULT_INIT_SCALE,
    seed: int = 0,
) -> ParameterGroups:
    """Re-initialize `model` in a parameterization and return its parameter groups for any `torch.optim.SGD`.

    Each group has lr = ε c_l and weight_decay = λ/c_l (coupled decay of the parameterization's own coordinates); the
    forward pass of the model does not change.

    Arguments:
        model: the model to train; its parameters are overwritten in place, except where the table keeps its own start.
        reference: the same factory at another width, from which the growing fan-ins are seen.
        name: "standard", "ntk" or "own".
        learning_rate: ε, per step. weight_decay: λ, in the parameterization's coordinates.
        momentum: m, in [0, 1), written into every group; where None, the optimizer's own holds.
        init_scale: σ0². Default 2 (He et al. 2015). seed: fixes the initial weights, as a run's seed does in a sweep.
    Returns:
        A list with one group per distinct multiplier, in the order of `model.named_parameters()`.
    Raises:
        BadInput: an unknown name, a rate that is not positive, or a parameter without a rule.
    Source:
        Park, Sohl-Dickstein, Le, Smith 2019, section 2.1; the map W = mθ, c = m².
    """
    if not learning_rate > 0:
        raise BadInput("learning_rate", "a positive number", learning_rate)
    table = build_table(name, describe_parameters(model, reference), init_scale)
    start = initial_parameters(table, model, seed)
    tensors = dict(model.named_parameters())
    groups: dict[float, dict[str, Any]] = {}
    with torch.no_grad():
        for row in table:
            tensors[row.name].copy_(start[row.name])
            rates = {"lr": learning_rate * row.multiplier, "weight_decay": weight_decay / row.multiplier}
            empty = {"params": [], **rates, **({} if momentum is None else {"momentum": momentum})}
            groups.setdefault(row.multiplier, empty)["params"].append(tensors[row.name])
    return ParameterGroups(list(groups.values()), model)
