"""`torch.func.vmap` without its warning of slow operations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch.func import vmap


def vectorized(function: Callable[..., Any], in_dims: Any = 0) -> Callable[..., Any]:
    """Vectorize a function, and ignore the warning that torch computes an operation for one entry after the other.

    Args:
        function: The function of one entry.
        in_dims: The axis of the entries in each argument, or None for an argument without entries.

    Returns:
        The vectorized function. It raises a RuntimeError if an operation cannot be vectorized.
    """
    mapped = vmap(function, in_dims=in_dims)

    def quiet(*arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            return mapped(*arguments)

    return quiet
