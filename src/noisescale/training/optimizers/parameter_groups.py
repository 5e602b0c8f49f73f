"""A parameterization for any model and any `torch.optim` optimizer: new initial weights and parameter groups."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from noisescale.errors import BadInput, unknown_name
from noisescale.parameterizations import (
    DEFAULT_INIT_SCALE,
    WITH_BASE_WIDTH,
    Table,
    build_table,
    describe_parameters,
    initial_parameters,
    multiply_rates,
)
from noisescale.training.optimizers.protocol import CLIP_EPSILON, NO_DECAY, GroupOptions, Optimizer
from noisescale.training.optimizers.table import OPTIMIZERS


class ParameterGroups(list[dict[str, Any]]):
    """Parameter groups for an optimizer, and the model whose parameters they hold.

    Args:
        groups: The groups, as the `torch.optim` optimizer takes them.
        model: The re-initialized model.
        optimizer: The entry of the optimizer in `OPTIMIZERS`.
        table: The parameterization's table of the model.
    """

    def __init__(self, groups: list[dict[str, Any]], model: nn.Module, optimizer: Optimizer, table: Table) -> None:
        super().__init__(groups)
        self.model = model
        self._optimizer, self._table = optimizer, table

    def build(self) -> torch.optim.Optimizer:
        """Return the `torch.optim` optimizer for these groups."""
        return self._optimizer.build(self)

    @torch.no_grad()
    def clip_gradients(self, bound: float) -> Tensor:
        """Scale the gradients to a norm √(Σ c‖g‖²) of at most a bound, as a sweep does with `training.clip_norm`.

        Call it between `loss.backward()` and `optimizer.step()`. The factor c of a tensor is the rate multiplier of SGD
        in the parameterization's table. If every c is 1, this equals `torch.nn.utils.clip_grad_norm_`.

        Args:
            bound: Largest norm.

        Returns:
            The norm before scaling.
        """
        tensors = dict(self.model.named_parameters())
        squares, gradients = [], []
        for row in self._table:
            gradient = tensors[row.name].grad
            if gradient is None:
                continue
            # The factor of query rows is m²c, and a hook has multiplied their gradients (`Optimizer.scale_rows`).
            hooked = row.query_factor ** (2 * self._optimizer.query_power)
            factors = row.multiplier * row.row_factors(row.query_factor**2 / hooked)
            squares.append((gradient.square() * factors.to(gradient)).sum())
            gradients.append(gradient)
        norm = torch.stack(squares).sum().sqrt()
        torch._foreach_mul_(gradients, (bound / (norm + CLIP_EPSILON)).clamp(max=1.0))
        return norm


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
    rate_multipliers: Mapping[str, float] = MappingProxyType({}),
    seed: int = 0,
    **hyperparameters: Any,
) -> ParameterGroups:
    """Re-initialize `model` in a parameterization and return its parameter groups for a `torch.optim` optimizer.

    Each group has lr = ε a f, where a is the rate multiplier of the optimizer and f is the factor from
    `rate_multipliers`, 1 by default. For SGD, a = c. For AdamW, a is the
    multiplier for Adam in the table, or √c if there is none. The forward pass of the model does not change. If only
    some rows of a tensor make queries (a fused projection under mup), a hook on the tensor multiplies the gradient of
    these rows by m². With the rate and decay of the group, SGD then trains these rows with the rate ε m²c and the decay
    λ/(m²c), also with momentum. For AdamW, the hook multiplies by m, and the optimizer of `build` scales the step of
    these rows.

    Args:
        model: The model to train. Its parameters are overwritten, except those that keep their values according to the
            table.
        reference: The same model at another width. Dimensions that differ between the two models grow with width.
        name: Name of the parameterization: "standard", "ntk", "improved_standard", "mup" or "own".
        learning_rate: Learning rate ε.
        base: The same model at the base width, at which mup and improved_standard equal standard. If None, `reference`
            is the base and must have another width than `model`. To train at the base width, pass the model itself as
            `base`.
        query_rows: Weights that make the queries of an attention, for mup, e.g. "blocks.*.qkv.weight[:1/3]". The query
            rows of `nn.MultiheadAttention` are recognized without an entry.
        optimizer: Name in `OPTIMIZERS`: "sgd" or "adamw".
        weight_decay: Weight decay λ, in the coordinates of the parameterization.
        decay: "coupled", "decoupled" or "independent". None for the default of the optimizer: coupled for SGD,
            decoupled for AdamW.
        no_decay: The kinds of parameters without decay: "gains", "biases" or both.
        init_scale: Initial variance σ0². Default 2 (He et al. 2015).
        rate_multipliers: Factors of the rate by pattern of parameter names, e.g. `{"backbone.*": 0.1}`.
        seed: Seed of the initial weights, as in a sweep.
        **hyperparameters: Hyperparameters of the optimizer: momentum and nesterov for SGD, or beta1, beta2 and epsilon
            for AdamW. The optimizer's defaults apply to hyperparameters that are not given.

    Returns:
        A list with one group for each distinct setting, in the order of `model.named_parameters()`. The list's method
        `build` returns the optimizer, and its attribute `model` is the model.

    Raises:
        BadInput: A name or an option is unknown, the rate is not positive, a parameter has no rule, a tied tensor has
            two rules, the base or the growth of the model does not fit, or query rows do not exist.

    Source:
        Park, Sohl-Dickstein, Le, Smith 2019, section 2.1, for the relation W = mθ with c = m².
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
    table = multiply_rates(table, rate_multipliers)
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
    return ParameterGroups(list(groups.values()), model, chosen, table)


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


# The gradient hooks that `parameterize` has added. Parameterizing a model again replaces its hooks.
_HOOKS: MutableMapping[Tensor, RemovableHandle] = WeakTensorKeyDictionary()
