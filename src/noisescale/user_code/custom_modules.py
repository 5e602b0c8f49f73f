"""Recognizes modules whose passes run code of the user."""

from __future__ import annotations

from torch import nn

_LIBRARIES = ("noisescale", "torch")
# Torch's names for the tables of hooks of a module.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def runs_user_code(module: nn.Module) -> bool:
    """Return whether a pass of a module runs code that is neither torch's nor this package's: a class, or a hook.

    Args:
        module: The module.
    """
    return any(
        type(part).__module__.partition(".")[0] not in _LIBRARIES
        or "forward" in vars(part)
        or any(getattr(part, hooks, None) for hooks in _HOOKS)
        for part in module.modules()
    )
