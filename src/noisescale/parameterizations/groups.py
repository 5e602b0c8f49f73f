"""`parameterize`: a parameterization for anybody's `torch.optim.SGD`."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from noisescale.errors import BadInput
from noisescale.parameterizations.fan_in import describe_parameters
from noisescale.parameterizations.initialize import initial_parameters
from noisescale.parameterizations.tables import DEFAULT_INIT_SCALE, WITH_BASE_WIDTH, Row, build_table


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
    base: nn.Module | None = None,
    query_rows: Sequence[str] = (),
    momentum: float | None = None,
    weight_decay: float = 0.0,
    init_scale: float = DEFAULT_INIT_SCALE,
    seed: int = 0,
) -> ParameterGroups:
    """Re-initialize `model` in a parameterization and return its parameter groups for any `torch.optim.SGD`.

    Each group has lr = ε c_l and weight_decay = λ/c_l (coupled decay of the parameterization's own coordinates); the
    forward pass of the model does not change. Where a part of a tensor makes queries (a fused projection under mup), a
    hook on that tensor multiplies the gradient of those rows by m²: with the group's rate and decay this is SGD with
    the rate ε m²c_l and the decay λ/(m²c_l) there, with or without momentum.

    Arguments:
        model: the model to train; its parameters are overwritten in place, except where the table keeps its own start.
        reference: the same factory at another width, from which growth is seen.
        name: "standard", "ntk", "improved_standard", "mup" or "own".
        learning_rate: ε, per step. weight_decay: λ, in the parameterization's coordinates.
        base: the same factory at the base width, where mup and improved_standard equal standard. Default `reference`,
            which then must have another width than `model`; a model of the base width itself is its own base.
        query_rows: for mup, the weights that make an attention's queries, e.g. "blocks.*.qkv.weight[:1/3]"; torch's own
            attention needs no name.
        momentum: m, in [0, 1), written into every group; where None, the optimizer's own holds.
        init_scale: σ0². Default 2 (He et al. 2015). seed: fixes the initial weights, as a run's seed does in a sweep.
    Returns:
        A list with one group per distinct multiplier, in the order of `model.named_parameters()`.
    Raises:
        BadInput: an unknown name, a rate that is not positive, a parameter without a rule, a tied tensor that would
            need two, a base or a model without growth where that is no use, or query rows that cannot be found.
    Source:
        Park, Sohl-Dickstein, Le, Smith 2019, section 2.1; the map W = mθ, c = m².
    """
    if not learning_rate > 0:
        raise BadInput("learning_rate", "a positive number", learning_rate)
    if name in WITH_BASE_WIDTH:
        base = reference if base is None else base
    elif base is not None:
        raise BadInput("base", f"a parameterization that uses it: {', '.join(WITH_BASE_WIDTH)}", repr(name))
    table = build_table(name, describe_parameters(model, reference, base, query_rows), init_scale)
    start = initial_parameters(table, model, seed)
    tensors = dict(model.named_parameters())
    groups: dict[float, dict[str, Any]] = {}
    with torch.no_grad():
        for row in table:
            tensors[row.name].copy_(start[row.name])
            _scale_gradient(tensors[row.name], row)
            rates = {"lr": learning_rate * row.multiplier, "weight_decay": weight_decay / row.multiplier}
            empty = {"params": [], **rates, **({} if momentum is None else {"momentum": momentum})}
            groups.setdefault(row.multiplier, empty)["params"].append(tensors[row.name])
    return ParameterGroups(list(groups.values()), model)


# The hooks of this module, so that parameterizing a model again replaces them.
_HOOKS: MutableMapping[Tensor, RemovableHandle] = WeakTensorKeyDictionary()


def _scale_gradient(tensor: Tensor, row: Row) -> None:
    """Let m² multiply the gradient of the query rows, at every backward pass and hence once where passes add up."""
    if tensor in _HOOKS:
        _HOOKS.pop(tensor).remove()
    factors = row.row_factors()
    if factors is not None and tensor.requires_grad:
        scale = factors.square()
        hook = tensor.register_hook(lambda gradient: gradient * scale.to(gradient))  # type: ignore[no-untyped-call]
        _HOOKS[tensor] = hook
