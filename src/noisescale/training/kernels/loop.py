"""The kernel that computes one run after another. It serves wide networks and modules that cannot be packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from noisescale.families import in_mode
from noisescale.named_inputs import Inputs
from noisescale.seeding import seeded
from noisescale.training.kernels.buffer_slots import BufferSlots
from noisescale.training.kernels.evaluation import RunByRunEvaluation
from noisescale.training.kernels.kernel import Tensors
from noisescale.training.objectives import Objective
from noisescale.user_code import ProcessState


class LoopKernel(RunByRunEvaluation):
    """Computes gradients by autograd, one run after another.

    Args:
        module: The module. Its forward pass and its constant buffers are used, its parameters are not.
        objective: What each run minimizes.
        of_torch_only: Whether the seed of a pass is for torch's generator only. NumPy's and Python's take longer.
    """

    name = "loop"

    def __init__(self, module: nn.Module, objective: Objective, *, of_torch_only: bool = True) -> None:
        super().__init__(module)
        self._trained, self._objective, self._of_torch_only = in_mode(module, training=True), objective, of_torch_only
        self._parameters = dict(module.named_parameters())
        self._buffers = BufferSlots(module)
        self.unused: dict[str, list[int]] = {}

    def losses_and_gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: Inputs,
        targets: Tensor,
        with_losses: bool = True,
        seeds: Sequence[int] | None = None,
    ) -> tuple[Tensor | None, Tensors]:
        gradients = {name: torch.empty_like(tensor) for name, tensor in parameters.items()}
        losses = next(iter(parameters.values())).new_empty(len(inputs))
        self.unused = {}
        state = ProcessState() if self._changes_settings is not False else None
        for run in range(len(inputs)):
            # The module takes views of the pack's tensors: a training pass updates its buffers in place. This takes a
            # third of the time of a functional call.
            leaves = {name: self._parameters[name] for name in parameters}
            values = {name: tensor[run].detach() for name, tensor in parameters.items()}
            for name, leaf in leaves.items():
                leaf.data = values[name]
            self._buffers.set(buffers, run)
            with torch.enable_grad(), self._seeded(seeds[run] if seeds is not None else None, inputs.device):
                loss = self._objective.of_run(self._trained(inputs[run]), targets[run])
                # Not `torch.autograd.grad`, which modules that recompute parts of their passes refuse.
                loss.backward()  # type: ignore[no-untyped-call]
            if state is not None:  # or the next run would be computed with what this one has changed
                self._changes_settings = bool(state.restore()) or bool(self._changes_settings)
            if self._runs_user_code:
                _read_replaced(leaves, values)
            self._buffers.read(buffers, run)
            losses[run] = loss.detach()
            for name, leaf in leaves.items():
                if leaf.grad is None:
                    self.unused.setdefault(name, []).append(run)
                    gradients[name][run] = 0.0
                else:
                    gradients[name][run] = leaf.grad.to_dense() if leaf.grad.is_sparse else leaf.grad
                leaf.grad = None
        return losses, gradients

    @contextmanager
    def _seeded(self, seed: int | None, device: torch.device) -> Iterator[None]:
        others = nullcontext() if self._of_torch_only or seed is None else seeded(seed)
        with others, _Seeded(seed, device):
            yield


def _read_replaced(leaves: Mapping[str, Tensor], values: Tensors) -> None:
    """Copy the parameters of a run from the module, where a pass has put others in their place (`weight.data = …`)."""
    for name, leaf in leaves.items():
        if not leaf.is_set_to(values[name]):
            values[name].copy_(leaf.detach())


class _Seeded:
    """Seeds a generator of torch within a `with` block and restores it afterwards. Does nothing without a seed."""

    def __init__(self, seed: int | None, device: torch.device) -> None:
        self._seed = seed
        # `torch.manual_seed` would seed all devices, and record a traceback for each that is not in use.
        cuda = device.type == "cuda"
        self._generator = torch.cuda.default_generators[device.index or 0] if cuda else torch.default_generator

    def __enter__(self) -> None:
        if self._seed is not None:
            self._state = self._generator.get_state()
            self._generator.manual_seed(self._seed)

    def __exit__(self, *exception: object) -> None:
        if self._seed is not None:
            self._generator.set_state(self._state)
