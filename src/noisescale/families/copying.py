"""Copies of modules, also of those that keep tensors of a forward pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from noisescale.errors import BadInput, one_line


def copy_module(module: nn.Module) -> nn.Module:
    """Copy a module, with the hooks of its parameters. A tensor that it keeps from a pass is copied without its graph.

    Args:
        module: Any module.

    Raises:
        BadInput: The module holds something that Python cannot copy, such as an open file or a lock.
    """
    try:
        with _WithoutGraph():
            copied = copy.deepcopy(module)
    except Exception as error:  # a user's class may raise anything while it is copied
        raise BadInput("model", "a module that copy.deepcopy can copy", one_line(error)) from error
    for original, parameter in zip(module.parameters(), copied.parameters(), strict=True):
        # Parameters of a copied script are results of an operation, which collect no gradients.
        if not parameter.is_leaf:
            parameter.detach_().requires_grad_()
        # `copy.deepcopy` leaves out hooks of tensors.
        for hook in (original._backward_hooks or {}).values():
            parameter.register_hook(hook)  # type: ignore[no-untyped-call]
        for hook in (getattr(original, "_post_accumulate_grad_hooks", None) or {}).values():
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
    return copied


def has_hooks(parameter: nn.Parameter) -> bool:
    """Return whether code of the user changes, or looks at, the gradient of a parameter.

    Args:
        parameter: A parameter of a module.
    """
    return bool(parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None))


class _WithoutGraph(TorchFunctionMode):
    """Lets `copy.deepcopy` copy tensors that have a graph, or that a finished call of `vmap` left behind."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function is not Tensor.__deepcopy__:
            return function(*args, **(kwargs or {}))
        tensor, memo = args
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            # Its values are gone with the call that made it.
            memo[id(tensor)] = torch.empty(0)
        elif not tensor.is_leaf:
            memo[id(tensor)] = tensor.detach().clone()
        else:
            with torch._C.DisableTorchFunction():
                return function(*args)
        return memo[id(tensor)]
