"""A parameterization for any model and optimizer of `torch.optim`: new initial weights and parameter groups."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from noisescale.errors import BadInput, unknown_name
from noisescale.parameterizations import (
    DEFAULT_INIT_SCALE,
    WITH_BASE_WIDTH,
    build_table,
    describe_parameters,
    initial_parameters,
)
from noisescale.training.optimizers.protocol import NO_DECAY, GroupOptions, Optimizer
from noisescale.training.optimizers.table import OPTIMIZERS


class ParameterGroups(list[dict[str, Any]]):
    """Parameter groups for an optimizer, and the model whose parameters they hold.

    Args:
        groups: The groups, as the optimizer of `torch.optim` takes them.
        model: The re-initialized model.
        optimizer: The row of the optimizer.
    """

    def __init__(self, groups: list[dict[str, Any]], model: nn.Module, optimizer: Optimizer) -> None:
        super().__init__(groups)
        self.model = model
        self._optimizer = optimizer

    def build(self) -> torch.optim.Optimizer:
        """Return the optimizer of `torch.optim` for these groups."""
        return self._optimizer.build(self)


def parameterize(
    model: nn.Module,
    reference: nn.Module,
    name: str,
    learning_rate: float,
    *,
    base: nn.Module | None = None,
    query_rows: Sequence[str] = (),
    optimizer: str = "sgd",
    weight_decay: float = 0.0,
    decay: str | None = None,
    no_decay: Sequence[str] = (),
    init_scale: float = DEFAULT_INIT_SCALE,
    seed: int = 0,
    **hyperparameters: Any,
) -> ParameterGroups:
    """Re-initialize `model` in a parameterization and return its parameter groups for an optimizer of `torch.optim`.

    Each group has lr = ε a, with a the rate multiplier of the optimizer: c for SGD, √c (or the column for Adam in the
    table) for AdamW. The forward pass of the model does not change. If a part of a tensor makes queries (a fused
    projection under mup), a hook on that tensor multiplies the gradient of those rows by m². With the rate and decay of
    the group, these rows are trained by SGD with the rate ε m²c and the decay λ/(m²c), also with momentum.

    Args:
        model: The model to train. Its parameters are overwritten, except those that keep their values in the table.
        reference: The same model at another width. What differs between the two grows with width.
        name: "standard", "ntk", "improved_standard", "mup" or "own".
        learning_rate: Learning rate ε.
        base: The same model at the base width, where mup and improved_standard equal standard. None for `reference`,
            which must then have another width than `model`. To train at the base width, pass the model as its base.
        query_rows: Weights that make the queries of an attention, for mup, e.g. "blocks.*.qkv.weight[:1/3]". Those of
            `nn.MultiheadAttention` are known.
        optimizer: Name in `OPTIMIZERS`: "sgd" or "adamw".
        weight_decay: Weight decay λ, in the coordinates of the parameterization.
        decay: "coupled", "decoupled" or "independent". None for the default of the optimizer: coupled for SGD,
            decoupled for AdamW.
        no_decay: Parameters without decay: "gains", "biases" or both.
        init_scale: Initial variance σ0². Default 2 (He et al. 2015).
        seed: Seed of the initial weights, as in a sweep.
        **hyperparameters: Hyperparameters of the optimizer: momentum and nesterov for SGD; beta1, beta2 and epsilon for
            AdamW. Those not given have the defaults of the optimizer.

    Returns:
        A list with a group for each distinct setting, in the order of `model.named_parameters()`. Its method `build`
        returns the optimizer, and its attribute `model` is the model.

    Raises:
        BadInput: A name or an option is unknown, the rate is not positive, a parameter has no rule, a tied tensor has
            two rules, the base or the growth of the model does not fit, or query rows do not exist.

    Source:
        Park, Sohl-Dickstein, Le, Smith 2019, section 2.1, for the map W = mθ with c = m².
    """
    if not learning_rate > 0:
        raise BadInput("learning_rate", "a positive number", learning_rate)
    if optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", OPTIMIZERS, optimizer)
    chosen = OPTIMIZERS[optimizer]
    options = _options(chosen, learning_rate, weight_decay, decay, no_decay, hyperparameters)
    if name in WITH_BASE_WIDTH:
        base = reference if base is None else base
    elif base is not None:
        raise BadInput("base", f"a parameterization that uses it: {', '.join(WITH_BASE_WIDTH)}", repr(name))
    table = build_table(name, describe_parameters(model, reference, base, query_rows), init_scale)
    start = initial_parameters(table, model, seed)
    tensors = dict(model.named_parameters())
    groups: dict[str, dict[str, Any]] = {}
    with torch.no_grad():
        for row in table:
            tensor = tensors[row.name]
            if tensor in _HOOKS:
                _HOOKS.pop(tensor).remove()
            if row.query_factor != 1.0 and tensor.requires_grad:
                _HOOKS[tensor] = chosen.scale_rows(row, tensor)
            tensor.copy_(start[row.name])
            group = chosen.group(row, options)
            groups.setdefault(repr(group), {"params": [], **group})["params"].append(tensor)
    return ParameterGroups(list(groups.values()), model, chosen)


def _options(
    optimizer: Optimizer,
    learning_rate: float,
    weight_decay: float,
    decay: str | None,
    no_decay: Sequence[str],
    hyperparameters: dict[str, Any],
) -> GroupOptions:
    nesterov = bool(hyperparameters.get("nesterov"))
    kind = optimizer.decays[0] if decay is None else decay
    optimizer.check(decay=kind, nesterov=nesterov)
    accepted = (*optimizer.hyperparameters, *(("nesterov",) if optimizer.has_nesterov else ()))
    for key in hyperparameters:
        if key not in accepted:
            required = f"a hyperparameter of the optimizer {optimizer.name!r}: {', '.join(accepted) or 'it has none'}"
            raise BadInput(key, required, hyperparameters[key])
    for parameters in no_decay:
        if parameters not in NO_DECAY:
            raise unknown_name("no_decay", NO_DECAY, parameters)
    given = {key: value for key, value in hyperparameters.items() if value is not None}
    return GroupOptions(learning_rate, weight_decay, kind, tuple(no_decay), given)


# The hooks of this module, so that parameterizing a model again replaces them.
_HOOKS: MutableMapping[Tensor, RemovableHandle] = WeakTensorKeyDictionary()
