"""The kernel for plain MLPs: forward and backward passes as batched matrix products, without autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from noisescale.families import MLPLayers
from noisescale.named_inputs import Inputs, one_tensor
from noisescale.training.kernels.kernel import Tensors
from noisescale.training.objectives import Objective

Backward = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class _Activation:
    forward_: Callable[[Tensor], Tensor]  # in place
    backward: Backward  # (gradient in the output, output) -> gradient in the input


_ACTIVATIONS: dict[type[nn.Module], _Activation] = {
    nn.ReLU: _Activation(torch.relu_, lambda gradient, output: torch.ops.aten.threshold_backward(gradient, output, 0)),
    nn.Tanh: _Activation(torch.tanh_, lambda gradient, output: torch.ops.aten.tanh_backward(gradient, output)),
}


class MLPKernel:
    """Computes gradients of an MLP without autograd. They equal those of `GenericKernel`.

    With h_0 = x, z_l = h_{l−1} W_lᵀ + b_l, h_l = φ(z_l) and δ = ∂loss/∂z/B, the gradients are δ_lᵀ h_{l−1} and Σ_B δ_l.

    Args:
        layers: Names and activation of the layers, from `mlp_layers`.
        objective: What each run minimizes.
    """

    name = "explicit"
    # Every pass uses every parameter.
    unused: Mapping[str, Sequence[int]] = MappingProxyType({})

    def __init__(self, layers: MLPLayers, objective: Objective) -> None:
        self._weights = [f"{name}.weight" for name in layers.names]
        self._biases = [f"{name}.bias" for name in layers.names]
        self._activation = _ACTIVATIONS[layers.activation]
        self._objective = objective

    def losses_and_gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: Inputs,
        targets: Tensor,
        with_losses: bool = True,
        seeds: Sequence[int] | None = None,
    ) -> tuple[Tensor | None, Tensors]:
        hidden = self._hidden(parameters, one_tensor(inputs, "model.family").flatten(2))
        # Outputs are stored as [R, K, B], because a softmax over few classes is a few times faster if the axis of
        # classes is not the innermost.
        weight, bias = parameters[self._weights[-1]], parameters[self._biases[-1]]
        # Under autocast, products have the lower precision. Losses and gradients have the precision of the parameters.
        outputs = _in(weight.dtype, torch.baddbmm(bias.unsqueeze(2), weight, hidden[-1].mT).mT)
        losses = self._objective.of_runs(outputs.contiguous(), targets) if with_losses else None
        delta = self._objective.gradient(outputs, targets)
        gradients: dict[str, Tensor] = {}
        for layer in reversed(range(len(self._weights))):
            gradients[self._weights[layer]] = _in(weight.dtype, torch.bmm(delta.mT, hidden[layer]))
            gradients[self._biases[layer]] = _in(weight.dtype, delta.sum(1))
            if layer:
                delta = self._activation.backward(torch.bmm(delta, parameters[self._weights[layer]]), hidden[layer])
        return losses, gradients

    def outputs(self, parameters: Tensors, buffers: Tensors, inputs: Inputs) -> Tensor:
        runs = parameters[self._weights[0]].shape[0]
        hidden = self._hidden(parameters, one_tensor(inputs, "model.family").flatten(1).expand(runs, -1, -1))
        return _affine(parameters, self._weights[-1], self._biases[-1], hidden[-1])

    def _hidden(self, parameters: dict[str, Tensor], inputs: Tensor) -> list[Tensor]:
        """Return h_0 … h_{L−1}, shape [R, B, units] each."""
        hidden = [inputs]
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            hidden.append(self._activation.forward_(_affine(parameters, weight, bias, hidden[-1])))
        return hidden


def _in(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    """Return a tensor in a precision. Asking first is faster than `to`, of which a step of a small network has many."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _affine(parameters: dict[str, Tensor], weight: str, bias: str, inputs: Tensor) -> Tensor:
    return torch.baddbmm(parameters[bias].unsqueeze(1), inputs, parameters[weight].mT)
