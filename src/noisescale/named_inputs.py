"""Inputs of a module: one tensor, or several tensors by name, such as tokens with a mask and lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.utils._pytree import register_pytree_node

from noisescale.errors import BadInput

Index = Tensor | slice | int | tuple[slice, slice]


class NamedInputs(Mapping[str, Tensor]):
    """Several tensors by name with the same first axes, which are indexed and moved together as one tensor is.

    A text as index gives an entry, so that it can be read like a dictionary. Its length is the number of examples.

    Args:
        entries: The tensors by name, shape [N, …] each.
    """

    def __init__(self, entries: Mapping[str, Tensor]) -> None:
        self._entries = dict(entries)

    @overload
    def __getitem__(self, index: str) -> Tensor: ...

    @overload
    def __getitem__(self, index: Index) -> NamedInputs: ...

    def __getitem__(self, index: str | Index) -> Tensor | NamedInputs:
        if isinstance(index, str):
            return self._entries[index]
        return self.map(lambda tensor: tensor[index])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._any)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def map(self, function: Callable[[Tensor], Tensor]) -> NamedInputs:
        """Apply a function to every tensor.

        Args:
            function: A function of a tensor.
        """
        return NamedInputs({name: function(tensor) for name, tensor in self._entries.items()})

    def clone(self) -> NamedInputs:
        """Copy every tensor."""
        return self.map(Tensor.clone)

    def index_select(self, axis: int, index: Tensor) -> NamedInputs:
        """Return entries along a common axis.

        Args:
            axis: The axis.
            index: Numbers of the entries, shape [n].
        """
        return self.map(lambda tensor: tensor.index_select(axis, index))

    def unflatten(self, axis: int, sizes: Sequence[int]) -> NamedInputs:
        """Split a common axis into several.

        Args:
            axis: The axis.
            sizes: Lengths of the new axes.
        """
        return self.map(lambda tensor: torch.unflatten(tensor, axis, list(sizes)))

    def unsqueeze(self, axis: int) -> NamedInputs:
        """Insert a common axis of length 1.

        Args:
            axis: Its position.
        """
        return self.map(lambda tensor: tensor.unsqueeze(axis))

    def repeat_interleave(self, times: int, axis: int) -> NamedInputs:
        """Repeat the entries along a common axis.

        Args:
            times: How often.
            axis: The axis.
        """
        return self.map(lambda tensor: tensor.repeat_interleave(times, axis))

    def numel(self) -> int:
        """Return the number of elements of all tensors."""
        return sum(tensor.numel() for tensor in self._entries.values())

    @property
    def nbytes(self) -> int:
        """Size of all tensors, in bytes."""
        return sum(tensor.nbytes for tensor in self._entries.values())

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self._any.device

    @property
    def is_cuda(self) -> bool:
        """Whether the tensors are on a GPU."""
        return self._any.is_cuda

    @property
    def _any(self) -> Tensor:
        return next(iter(self._entries.values()))


# `torch.func` passes the tensors through its transformations.
register_pytree_node(
    NamedInputs,
    lambda inputs: ([inputs[name] for name in inputs], tuple(inputs)),
    lambda tensors, names: NamedInputs(dict(zip(names, tensors, strict=True))),
)

Inputs = Tensor | NamedInputs
_Given = TypeVar("_Given", bound=Inputs)


def mapped(inputs: _Given, function: Callable[[Tensor], Tensor]) -> _Given:
    """Apply a function to inputs that are one tensor, or to each of several.

    Args:
        inputs: The inputs.
        function: A function of a tensor.
    """
    # Of the two, only the test for a tensor is fast, and this function is called at every step.
    result: Any = function(inputs) if isinstance(inputs, Tensor) else inputs.map(function)
    return result  # type: ignore[no-any-return]


def wide(inputs: _Given) -> _Given:
    """Return whole numbers as 64-bit numbers, which embeddings and losses take, and others as they are.

    Args:
        inputs: The inputs.
    """
    if isinstance(inputs, Tensor) and inputs.is_floating_point():
        return inputs
    return mapped(inputs, _wide)


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_floating_point() or tensor.dtype == torch.bool else tensor.long()


def in_precision(inputs: _Given, dtype: torch.dtype) -> _Given:
    """Return real numbers in another precision, and other numbers as they are.

    Args:
        inputs: The inputs.
        dtype: The precision.
    """
    return mapped(inputs, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def described(inputs: Inputs) -> str:
    """Return the shape of one example in words, by name for inputs by name.

    Args:
        inputs: The inputs, shape [B, …].
    """
    if isinstance(inputs, NamedInputs):
        return ", ".join(f"{name!r} {tuple(inputs[name].shape[1:])}" for name in inputs)
    return str(tuple(inputs.shape[1:]))


def expand(inputs: _Given, runs: int) -> _Given:
    """Return the same inputs for R runs, shape [R, …], as a view.

    Args:
        inputs: The inputs.
        runs: R.
    """
    return mapped(inputs, lambda tensor: tensor.expand(runs, *tensor.shape))


def one_tensor(inputs: Inputs, name: str) -> Tensor:
    """Return inputs that are one tensor, and refuse inputs by name.

    Args:
        inputs: The inputs.
        name: What takes them, for the message.

    Raises:
        BadInput: The inputs are several tensors.
    """
    if isinstance(inputs, Tensor):
        return inputs
    raise BadInput(name, "inputs that are one tensor", f"inputs by name: {', '.join(map(repr, inputs))}")


def take_dictionaries(module: nn.Module, key: str) -> nn.Module:
    """Let a module get inputs by name as the dictionary that its author expects.

    Args:
        module: The module. Changed in place.
        key: Key of the spec or argument that gives the module, for messages.

    Returns:
        The module.

    Raises:
        BadInput: The module is a script, which takes no hooks.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise BadInput(key, "a module that holds the scripted one, for inputs by name", type(module).__name__)
    if not any(isinstance(hook, _AsDictionary) for hook in module._forward_pre_hooks.values()):
        module.register_forward_pre_hook(_AsDictionary())
    return module


class _AsDictionary:
    """A hook that replaces inputs by name by a plain dictionary."""

    def __call__(self, _module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            {name: argument[name] for name in argument} if isinstance(argument, NamedInputs) else argument
            for argument in arguments
        )
