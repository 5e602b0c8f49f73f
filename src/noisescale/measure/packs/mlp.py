"""Hessian-vector products and per-example gradients of plain MLPs as batched matrix products, without autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisescale.families import MLPLayers
from noisescale.named_inputs import Inputs, one_tensor

Tensors = dict[str, Tensor]
PerExample = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Recorded:
    """The tensors of one forward and backward pass."""

    hidden: list[Tensor]  # h_0 … h_{L−1}, each [R, n, units]
    deltas: list[Tensor]  # δ_1 … δ_L, each [R, n, units]
    outputs: Tensor
    slope: Tensor  # ∂loss/∂outputs, with its autograd graph


@dataclass(frozen=True)
class GradientMoments:
    """Moments of n per-example gradients for each run, in float64.

    Args:
        squares: Squared norms ‖g_i‖² of the gradients, shape [R, n].
        along: Inner products ⟨g_i, ḡ⟩ with the mean gradient ḡ, shape [R, n].
        mean_square: Squared norm ‖ḡ‖² of the mean gradient, shape [R].
        gram: Inner products ⟨g_i, g_j⟩ of the gradients of the first m examples, shape [R, m, m].
    """

    squares: Tensor
    along: Tensor
    mean_square: Tensor
    gram: Tensor


class PlainMLP:
    """Products with the Hessian of an MLP, and moments of its per-example gradients.

    Let z_l = h_{l−1}W_lᵀ + b_l, h_l = φ(z_l) and δ_l = ∂loss/∂z_l. A dot denotes the derivative along V = (V_l, v_l).
    Then ż_l = ḣ_{l−1}W_lᵀ + h_{l−1}V_lᵀ + v_l, δ̇_L = ℓ''ż_L and δ̇_{l−1} = φ'(δ̇_lW_l + δ_lV_l) + φ''ż_{l−1}(δ_lW_l).
    The Hessian-vector product is δ̇_lᵀh_{l−1} + δ_lᵀḣ_{l−1} for the weights and Σδ̇_l for the biases.

    The gradient of an example with respect to W_l is δhᵀ. The inner product of two such gradients is therefore the
    inner product of the two δ times the inner product of the two h.

    Args:
        layers: Names and activation of the layers, from `mlp_layers`.
        per_example: A function from outputs [..., K] and targets [..., K] to losses [...].
        parameters: The weight and the bias of each layer, by name, shape [R, …] each.

    Source:
        Pearlmutter 1994, for HV; Goodfellow 2015, for the norms of gradients.
    """

    def __init__(self, layers: MLPLayers, per_example: PerExample, parameters: Tensors) -> None:
        self._per_example, self.piecewise_linear, self._names = per_example, layers.activation is nn.ReLU, layers.names
        self._weights = [parameters[f"{name}.weight"] for name in layers.names]
        self._biases = [parameters[f"{name}.bias"] for name in layers.names]

    @property
    def outputs(self) -> int:
        """Number K of outputs."""
        return self._biases[-1].shape[1]

    def record(self, inputs: Inputs, targets: Tensor) -> _Recorded:
        """Compute a forward and a backward pass on inputs of shape [n, …] and targets of shape [n, K]."""
        runs = len(self._weights[0])
        hidden = [one_tensor(inputs, "model").flatten(1).expand(runs, -1, -1)]
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            z = torch.baddbmm(bias.unsqueeze(1), hidden[-1], weight.mT)
            hidden.append(torch.relu_(z) if self.piecewise_linear else torch.tanh_(z))
        outputs = torch.baddbmm(self._biases[-1].unsqueeze(1), hidden[-1], self._weights[-1].mT).requires_grad_()
        with torch.enable_grad():
            loss = self._per_example(outputs, targets.expand(runs, *targets.shape)).sum()
            (slope,) = torch.autograd.grad(loss, outputs, create_graph=True)
        deltas = [slope.detach()]
        for layer in range(len(self._weights) - 1, 0, -1):
            back = torch.bmm(deltas[0], self._weights[layer])
            deltas.insert(0, self._times_derivative(back, hidden[layer]))
        return _Recorded(hidden, deltas, outputs, slope)

    def multiply(self, recorded: _Recorded, along: Tensor) -> Tensor:
        """Compute HV for the sum of the losses of the recorded examples.

        Args:
            recorded: The recorded pass.
            along: Direction V, shape [R, P].

        Returns:
            The products HV, shape [R, P].
        """
        hidden, deltas, last = recorded.hidden, recorded.deltas, len(self._weights) - 1
        v, w = self._split(along), self._weights
        moved: list[Tensor | None] = [None]  # ḣ_0 = 0
        shifts: list[Tensor] = []
        for layer in range(last + 1):
            shift = torch.baddbmm(v[layer][1].unsqueeze(1), hidden[layer], v[layer][0].mT)
            before = moved[layer]
            if before is not None:
                shift.baddbmm_(before, w[layer].mT)
            shifts.append(shift)
            if layer < last:
                moved.append(self._times_derivative(shift, hidden[layer + 1]))
        product = torch.empty_like(along)
        parts = self._split(product)
        (delta,) = torch.autograd.grad(recorded.slope, recorded.outputs, shifts[last], retain_graph=True)
        for layer in range(last, -1, -1):
            weight, before = torch.bmm(delta.mT, hidden[layer]), moved[layer]
            if before is not None:
                weight.baddbmm_(deltas[layer].mT, before)
            parts[layer][0].copy_(weight)
            torch.sum(delta, 1, out=parts[layer][1])
            if layer:
                back = torch.bmm(delta, w[layer]).baddbmm_(deltas[layer], v[layer][0])
                delta = self._times_derivative(back, hidden[layer])
                if not self.piecewise_linear:
                    # tanh'' = −2 tanh tanh', and δ_{l−1} contains tanh'.
                    delta.addcmul_(deltas[layer - 1] * hidden[layer], shifts[layer - 1], value=-2)
        return product

    def moments(self, recorded: _Recorded, multipliers: Tensors, few: int) -> GradientMoments:
        """Compute moments of the gradients of the recorded examples.

        Args:
            recorded: The recorded pass.
            multipliers: Rate multipliers c by name, one number for each run.
            few: Number m of gradients in the Gram matrix.
        """
        n = recorded.outputs.shape[1]
        runs, m = len(recorded.outputs), min(few, n)
        shapes = (runs, n), (runs, n), (runs,), (runs, m, m)
        squares, along, total, gram = (recorded.outputs.new_zeros(shape, dtype=torch.float64) for shape in shapes)
        for name, delta, hidden in zip(self._names, recorded.deltas, recorded.hidden, strict=True):
            weight, bias = (multipliers[f"{name}.{kind}"].double().view(-1, 1) for kind in ("weight", "bias"))
            mean = torch.bmm(delta.mT, hidden) / n
            mean_bias = delta.mean(1)
            sizes = delta.square().sum(2, dtype=torch.float64)
            squares += sizes * (weight * hidden.square().sum(2, dtype=torch.float64) + bias)
            pulled = (torch.bmm(delta, mean) * hidden).sum(2, dtype=torch.float64)
            pulled_bias = torch.bmm(delta, mean_bias.unsqueeze(2)).squeeze(2).double()
            along += weight * pulled + bias * pulled_bias
            norms = (part.double().square().flatten(1).sum(1) for part in (mean, mean_bias))
            for c, norm in zip((weight, bias), norms, strict=True):
                total += c.flatten() * norm
            d, h = (tensor[:, :few].double() for tensor in (delta, hidden))
            gram += d @ d.mT * (weight.unsqueeze(2) * (h @ h.mT) + bias.unsqueeze(2))
        return GradientMoments(squares, along, total, gram)

    def trace(self, recorded: _Recorded, multipliers: Tensors) -> Tensor:
        """Compute the exact trace of the Hessian of the summed losses, for piecewise linear activations.

        H = Jᵀℓ''J + Σ_k ℓ'_k ∇²f_k. The outputs f_k are piecewise linear in each single weight, so the diagonal of the
        second part is zero. The trace of Jᵀℓ''J takes one backward pass for each output.

        Args:
            recorded: The recorded pass.
            multipliers: Rate multipliers c by name, one number for each run.

        Returns:
            Traces, shape [R].
        """
        runs, n, outputs = recorded.outputs.shape
        unit = torch.eye(outputs, dtype=recorded.outputs.dtype, device=recorded.outputs.device)
        rows = [
            torch.autograd.grad(recorded.slope, recorded.outputs, row.expand(runs, n, -1), retain_graph=True)[0]
            for row in unit
        ]
        curvature = torch.stack(rows, 2)  # ℓ'' [R, n, K, K]
        jacobian = unit.expand(runs, n, -1, -1)  # ∂f/∂z_l [R, n, K, units]
        total = recorded.outputs.new_zeros(runs, dtype=torch.float64)
        for layer in range(len(self._weights) - 1, -1, -1):
            weight, bias = (
                multipliers[f"{self._names[layer]}.{kind}"].double().view(-1, 1) for kind in ("weight", "bias")
            )
            curved = ((curvature @ jacobian) * jacobian).sum((2, 3), dtype=torch.float64)
            hidden = recorded.hidden[layer]
            total += (curved * (weight * hidden.square().sum(2, dtype=torch.float64) + bias)).sum(1)
            if layer:
                back = torch.bmm(jacobian.reshape(runs, n * outputs, -1), self._weights[layer])
                jacobian = back.view(runs, n, outputs, -1) * (hidden > 0).unsqueeze(2)
        return total

    def _times_derivative(self, gradient: Tensor, output: Tensor) -> Tensor:
        """Multiply a gradient by φ', computed from the output of the activation."""
        aten = torch.ops.aten
        product: Tensor = (
            aten.threshold_backward(gradient, output, 0)
            if self.piecewise_linear
            else aten.tanh_backward(gradient, output)
        )
        return product

    def _split(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Split flat vectors, shape [R, P], into views of the weight and the bias of each layer."""
        layers, start = [], 0
        for weight, bias in zip(self._weights, self._biases, strict=True):
            middle = start + weight[0].numel()
            end = middle + bias.shape[1]
            layers.append((flat[:, start:middle].view(weight.shape), flat[:, middle:end]))
            start = end
        return layers
