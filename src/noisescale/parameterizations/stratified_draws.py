"""Random initial values that are spread evenly over their distribution, so that few draws give its variance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Tensors with more entries in all draws together keep torch's numbers. Their sample variance is exact to about 0.1 %
# anyway: the relative standard error is √(2/n) for n normal numbers and √(0.8/n) for n uniform numbers.
LARGEST_TOTAL = 1 << 20


class StratifiedDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode in which torch's uniform and normal random numbers are stratified over several draws.

    A call of n numbers is made once in each of K draws. It divides the distribution into nK strata of equal
    probability, and each stratum gives one number in one of the draws. Each number has the distribution that the
    caller asks for. The error of the variance over all draws falls as 1/(nK)^1.5 for uniform and about 1/(nK) for
    normal numbers, where independent numbers give 1/√(nK). Numbers from a generator that the caller passes stay the
    same.

    Args:
        draw: Number of the draw, from 0.
        draws: Number K of draws.

    Source:
        McKay, Beckman, Conover 1979 (Latin hypercube sampling).
    """

    def __init__(self, draw: int, draws: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._draw, self._draws, self._calls = draw, draws, 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation of torch, then replace the random numbers that it returns."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        quantile = None if kwargs.get("generator") is not None else _quantile(func, args, kwargs)
        if quantile is not None and result.is_floating_point():
            self._calls += 1
            if 0 < result.numel() * self._draws <= LARGEST_TOTAL:
                result.copy_(quantile(self._probabilities(result.numel())).view(result.shape))
        return result

    def _probabilities(self, count: int) -> Tensor:
        """Return one random point of each stratum of this draw, shape [count]."""
        shared = torch.Generator().manual_seed(self._calls)
        alone = torch.Generator().manual_seed((self._calls << 16) + self._draw)
        strata = torch.randperm(count * self._draws, generator=shared)[self._draw * count : (self._draw + 1) * count]
        points = torch.rand(count, generator=alone, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
        return (strata + points) / (count * self._draws)


def _quantile(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Tensor], Tensor] | None:
    """Return the quantile function of the numbers that an operation draws, or None for other operations."""
    aten = torch.ops.aten

    def numbers(names: tuple[str, str], first: int, defaults: tuple[float, float]) -> tuple[float, float]:
        given = [
            args[first + k] if len(args) > first + k else kwargs.get(name, default)
            for k, (name, default) in enumerate(zip(names, defaults, strict=True))
        ]
        return float(given[0]), float(given[1])

    if func.overloadpacket in (aten.rand, aten.rand_like):
        return lambda probabilities: probabilities
    if func.overloadpacket in (aten.randn, aten.randn_like):
        return lambda probabilities: torch.special.ndtri(probabilities)
    if func is aten.uniform_.default:
        low, high = numbers(("from", "to"), 1, (0.0, 1.0))
        return lambda probabilities: low + (high - low) * probabilities
    if func in (aten.normal_.default, aten.normal.float_float):
        mean, std = numbers(("mean", "std"), int(func is aten.normal_.default), (0.0, 1.0))
        return lambda probabilities: mean + std * torch.special.ndtri(probabilities)
    return None
