"""Hooks on gradients, which `torch.func.vmap` does not call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from noisescale.families import has_hooks


def hooked_part(module: nn.Module) -> str | None:
    """Return the parameter or the part of a module whose gradient has a hook, or None.

    Args:
        module: The module.
    """
    for name, parameter in module.named_parameters():
        if has_hooks(parameter):
            return name
    for name, part in module.named_modules():
        if getattr(part, "_backward_hooks", None) or getattr(part, "_backward_pre_hooks", None):
            return name or type(part).__name__
    return None


class HookWatch(TorchFunctionMode):
    """Notes whether a pass registers a hook on a tensor that it computes."""

    has_hooks = False

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.has_hooks |= function is Tensor.register_hook
        return function(*args, **(kwargs or {}))
