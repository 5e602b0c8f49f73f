"""Random numbers of several runs that are computed at once: each run has a generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class RunDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Draws the random numbers of a vectorized pass run by run, as the pass of one run at a time would draw them.

    Below `torch.func.vmap`, the first axis of the tensors is the run.

    Args:
        seeds: Seed of each run.
        device: Device of the tensors.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        cuda = device.type == "cuda"
        self._default = torch.cuda.default_generators[device.index or 0] if cuda else torch.default_generator

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in function.tags:
            return function(*args, **kwargs)
        if kwargs.get("generator") is not None:
            raise NotImplementedError(f"{function} draws from a generator of the module")
        first, runs = args[0] if args else None, len(self._generators)
        if isinstance(first, Tensor) and first.dim() and len(first) == runs:
            return self._of_tensor(function, first, args[1:], kwargs)
        if isinstance(first, Sequence) and first and first[0] == runs:
            sized = (list(first[1:]), *args[1:])
            return torch.stack([self._call(function, sized, kwargs, generator) for generator in self._generators])
        raise NotImplementedError(f"{function} draws random numbers that all runs share")

    def _of_tensor(self, function: Any, first: Tensor, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        results = []
        for run, generator in enumerate(self._generators):
            others = [
                value[run] if isinstance(value, Tensor) and value.dim() == first.dim() else value for value in rest
            ]
            results.append(self._call(function, (first[run], *others), kwargs, generator))
        if function._schema.is_mutable:
            return first
        if isinstance(results[0], tuple):
            return tuple(torch.stack(parts) for parts in zip(*results, strict=True))
        return torch.stack(results)

    def _call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], generator: torch.Generator) -> Any:
        """Call an operation for one run with its generator."""
        if any(argument.name == "generator" for argument in function._schema.arguments):
            return function(*args, **{**kwargs, "generator": generator})
        before = self._default.get_state()
        self._default.set_state(generator.get_state())
        try:
            return function(*args, **kwargs)
        finally:
            generator.set_state(self._default.get_state())
            self._default.set_state(before)
