"""The buffers of a module that computes several runs, one after another."""

from __future__ import annotations

from torch import Tensor, nn

from noisescale.families import check_replaced
from noisescale.training.kernels.kernel import Tensors


class BufferSlots:
    """Sets and reads the buffers of a module. A pass may change a buffer in place, or put another tensor in its place.

    Args:
        module: The module. Its frozen parameters are set and read like buffers.
    """

    def __init__(self, module: nn.Module) -> None:
        frozen = {name: tensor for name, tensor in module.named_parameters() if not tensor.requires_grad}
        self._tensors: Tensors = {**frozen, **dict(module.named_buffers())}
        self._views: Tensors = {}
        self._owners = {name: module.get_submodule(name.rpartition(".")[0]) for name in self._tensors}

    def set(self, buffers: Tensors, run: int) -> None:
        """Let the module hold views of a run's buffers.

        Args:
            buffers: Buffers by name, shape [R, …] each.
            run: Index of the run.
        """
        self._views = {name: tensor[run] for name, tensor in buffers.items()}
        for name, view in self._views.items():
            self._tensors[name].data = view

    def set_copies(self, buffers: Tensors, run: int) -> None:
        """Let the module hold copies of a run's buffers, also where a pass has put another tensor in their place.

        Args:
            buffers: Buffers by name, shape [R, …] each. They stay as they are.
            run: Index of the run.
        """
        for name, tensor in buffers.items():
            self._tensors[name].data = tensor[run].clone()
            self._put(name, self._tensors[name])

    def read(self, buffers: Tensors, run: int) -> None:
        """Copy a run's buffers from the module, where a pass has put another tensor or other data in their place.

        Args:
            buffers: Buffers by name, shape [R, …] each, as they were set. Changed in place.
            run: Index of the run.

        Raises:
            BadInput: The other tensor has another shape or kind.
        """
        for name, tensor in buffers.items():
            current = self._current(name)
            if current is not self._tensors[name] or not current.is_set_to(self._views[name]):
                check_replaced(name, self._views[name], current)
                tensor[run] = current.detach()
                self._put(name, self._tensors[name])

    def _current(self, name: str) -> Tensor:
        value = getattr(self._owners[name], name.rpartition(".")[2])
        assert isinstance(value, Tensor)
        return value

    def _put(self, name: str, tensor: Tensor) -> None:
        if self._current(name) is not tensor:
            setattr(self._owners[name], name.rpartition(".")[2], tensor)
