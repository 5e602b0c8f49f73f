"""Effects of a pass that `torch.func.vmap` loses: hooks on gradients, and changes of a parameter through its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from noisescale.families import has_hooks

_DATA = frozenset((Tensor.data.__get__, Tensor.data.__set__))  # type: ignore[attr-defined]


def hidden_effect(module: nn.Module, compute: Callable[[nn.Module], object]) -> str | None:
    """Return what a pass of a module does that `vmap` loses, or None.

    Args:
        module: The module. The pass may change it.
        compute: Computes a forward and a backward pass.
    """
    if (hooked := _hooked_part(module)) is not None:
        return f"a hook is registered on the gradient of {hooked}"
    watch = _Watch(module)
    with watch:
        compute(module)
    return watch.effect


def _hooked_part(module: nn.Module) -> str | None:
    for name, parameter in module.named_parameters():
        if has_hooks(parameter):
            return name
    for name, part in module.named_modules():
        if getattr(part, "_backward_hooks", None) or getattr(part, "_backward_pre_hooks", None):
            return name or type(part).__name__
    return None


class _Watch(TorchFunctionMode):
    """Notes whether a pass registers a hook on a tensor, or reads or sets the data of a parameter."""

    effect: str | None = None

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._names = {id(parameter): name for name, parameter in module.named_parameters()}

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function is Tensor.register_hook:
            self.effect = "a pass registers a hook on the gradient of a tensor"
        elif function in _DATA and id(args[0]) in self._names:
            self.effect = f"a pass uses {self._names[id(args[0])]}.data, by which it can change the weights"
        return function(*args, **(kwargs or {}))
