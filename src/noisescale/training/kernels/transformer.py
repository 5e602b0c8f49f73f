"""The kernel for the built-in transformer: forward and backward passes as batched matrix products, without autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from noisescale.families import Transformer
from noisescale.named_inputs import Inputs, one_tensor
from noisescale.training.kernels.evaluation import RunByRunEvaluation
from noisescale.training.kernels.kernel import Tensors
from noisescale.training.objectives import Objective

_aten = torch.ops.aten
_EPSILON = 1e-5
# Computes the gradient in the input of an operation from the gradient in its output.
_Backward = Callable[[Tensor], Tensor]


class TransformerKernel(RunByRunEvaluation):
    """Computes gradients of the built-in transformer for R runs at once. They equal those of `GenericKernel`.

    Args:
        module: The transformer. Its shapes are used, its parameters are not.
        objective: What each run minimizes.
    """

    name = "batched"
    # Every pass uses every parameter.
    unused: Mapping[str, Sequence[int]] = MappingProxyType({})

    def __init__(self, module: Transformer, objective: Objective) -> None:
        super().__init__(module)
        self._objective = objective
        self._depth, self._heads = len(module.blocks), module.heads
        self._causal, self._probability = module.read_out_kind == "tokens", module.dropout.p
        self._has_tokens, self._tied = module.vocabulary is not None, module.read_out.weight is module.embedding.weight

    def losses_and_gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: Inputs,
        targets: Tensor,
        with_losses: bool = True,
        seeds: Sequence[int] | None = None,
    ) -> tuple[Tensor | None, Tensors]:
        one_pass = _Pass(parameters, seeds if self._probability else None, self._probability, inputs.device)
        inputs = one_tensor(inputs, "model.family")
        runs, examples, length = inputs.shape[0], inputs.shape[1], inputs.shape[-1]
        hidden, embed_back = self._embed(one_pass, inputs)
        undo = []
        for block in range(self._depth):
            hidden, back = self._block(one_pass, f"blocks.{block}.", hidden, (examples, length))
            undo.append(back)
        hidden, norm_back = one_pass.normalize("norm", hidden)
        width = hidden.shape[-1]
        if not self._causal:
            hidden = hidden.view(runs, examples, length, width).mean(2)
        read_out = parameters["embedding.weight" if self._tied else "read_out.weight"]
        outputs = torch.bmm(hidden, read_out.mT)
        shaped = outputs.view(runs, examples, *([length] if self._causal else []), -1)
        losses = self._objective.of_runs(shaped, targets) if with_losses else None
        delta = self._objective.gradient(shaped, targets).reshape(outputs.shape)
        of_read_out = torch.bmm(delta.mT, hidden)
        delta = torch.bmm(delta, read_out)
        if not self._causal:
            delta = (delta / length).unsqueeze(2).expand(-1, -1, length, -1).reshape(runs, -1, width)
        delta = norm_back(delta)
        for back in reversed(undo):
            delta = back(delta)
        embed_back(delta)
        gradients = one_pass.gradients
        if self._tied:
            gradients["embedding.weight"] += of_read_out
        else:
            gradients["read_out.weight"] = of_read_out
        return losses, {name: gradients[name] for name in parameters}

    def _embed(self, one_pass: _Pass, inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Return the sum of embeddings and positions, shape [R, B·T, width]."""
        runs, examples, length = inputs.shape[0], inputs.shape[1], inputs.shape[-1]
        positions = one_pass.parameters["positions.weight"]
        width = positions.shape[-1]
        if self._has_tokens:
            weight = one_pass.parameters["embedding.weight"]
            first = torch.arange(runs, device=inputs.device) * weight.shape[1]
            index = (inputs.flatten(1) + first.unsqueeze(1)).flatten()
            embedded, back = weight.reshape(-1, width).index_select(0, index).view(runs, -1, width), None
        else:
            embedded, back = one_pass.linear("embedding", inputs.mT.flatten(1, 2))
        hidden = (embedded.view(runs, examples, length, width) + positions.unsqueeze(1)).view(runs, -1, width)
        hidden, drop_back = one_pass.drop(hidden, (examples, length, width))

        def embed_back(delta: Tensor) -> None:
            delta = drop_back(delta)
            one_pass.gradients["positions.weight"] = delta.view(runs, examples, length, width).sum(1)
            if back is None:
                total = torch.zeros_like(weight).view(-1, width)
                one_pass.gradients["embedding.weight"] = total.index_add_(0, index, delta.reshape(-1, width)).view(
                    weight.shape
                )
            else:
                back(delta)

        return hidden, embed_back

    def _block(self, one_pass: _Pass, name: str, hidden: Tensor, sizes: tuple[int, int]) -> tuple[Tensor, _Backward]:
        width = hidden.shape[-1]
        normalized, norm1_back = one_pass.normalize(f"{name}norm1", hidden)
        mixed, attention_back = self._attention(one_pass, f"{name}attention.", normalized, sizes)
        mixed, drop1_back = one_pass.drop(mixed, (*sizes, width))
        middle = hidden + mixed
        normalized, norm2_back = one_pass.normalize(f"{name}norm2", middle)
        above, up_back = one_pass.linear(f"{name}up", normalized)
        added, down_back = one_pass.linear(f"{name}down", functional.gelu(above))
        added, drop2_back = one_pass.drop(added, (*sizes, width))

        def back(delta: Tensor) -> Tensor:
            into_gelu = _aten.gelu_backward(down_back(drop2_back(delta)), above)
            delta = delta + norm2_back(up_back(into_gelu))
            return delta + norm1_back(attention_back(drop1_back(delta)))

        return middle + added, back

    def _attention(
        self, one_pass: _Pass, name: str, hidden: Tensor, sizes: tuple[int, int]
    ) -> tuple[Tensor, _Backward]:
        runs, _, width = hidden.shape
        examples, length = sizes
        parts, qkv_back = one_pass.linear(f"{name}qkv", hidden)
        query, key, value = parts.view(runs * examples, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        if one_pass.draws or hidden.is_cuda:
            mixed, mix_back = self._plain_attention(one_pass, query, key, value)
        else:
            mixed, mix_back = _fused_attention(query, key, value, self._causal)
        mixed = mixed.transpose(1, 2).reshape(runs, -1, width)
        outputs, out_back = one_pass.linear(f"{name}out", mixed)

        def back(delta: Tensor) -> Tensor:
            of_mixed = out_back(delta).view(runs * examples, length, self._heads, -1).transpose(1, 2)
            of_parts = torch.stack([part.transpose(1, 2) for part in mix_back(of_mixed)], 2)
            return qkv_back(of_parts.reshape(runs, -1, 3 * width))

        return outputs, back

    def _plain_attention(
        self, one_pass: _Pass, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
        length, scale = query.shape[2], 1 / math.sqrt(query.shape[3])
        scores = query @ key.mT * scale
        if self._causal:
            later = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        weights = torch.softmax(scores, -1)
        runs = len(next(iter(one_pass.parameters.values())))
        dropped, drop_back = one_pass.drop(weights, (len(query) // runs, *weights.shape[1:]))

        def back(delta: Tensor) -> tuple[Tensor, ...]:
            of_weights = drop_back(delta @ value.mT)
            of_scores = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True)) * scale
            return of_scores @ key, of_scores.mT @ query, dropped.mT @ delta

        return dropped @ value, back


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, causal: bool
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    """Compute attention by torch's fused operation for CPUs."""
    mixed, logs = _aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal)

    def back(delta: Tensor) -> tuple[Tensor, ...]:
        return _aten._scaled_dot_product_flash_attention_for_cpu_backward(  # type: ignore[no-any-return]
            delta, query, key, value, mixed, logs, 0.0, causal
        )

    return mixed, back


class _Pass:
    """One forward and backward pass of all runs: the layers that have parameters, and the random numbers.

    Args:
        parameters: Parameters by name, shape [R, …] each.
        seeds: Seed of each run; None without dropout.
        probability: Probability of dropout.
        device: Device of the tensors.
    """

    def __init__(
        self, parameters: Tensors, seeds: Sequence[int] | None, probability: float, device: torch.device
    ) -> None:
        self.parameters, self.gradients, self._probability = parameters, Tensors(), probability
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds or ()]

    @property
    def draws(self) -> bool:
        """Whether the pass has dropout."""
        return bool(self._generators)

    def linear(self, name: str, inputs: Tensor) -> tuple[Tensor, _Backward]:
        """Compute x Wᵀ + b, shape [R, N, outputs], from x of shape [R, N, inputs]."""
        weight, bias = self.parameters[f"{name}.weight"], self.parameters.get(f"{name}.bias")
        outputs = torch.bmm(inputs, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), inputs, weight.mT)

        def back(delta: Tensor) -> Tensor:
            self.gradients[f"{name}.weight"] = torch.bmm(delta.mT, inputs)
            if bias is not None:
                self.gradients[f"{name}.bias"] = delta.sum(1)
            return torch.bmm(delta, weight)

        return outputs, back

    def normalize(self, name: str, inputs: Tensor) -> tuple[Tensor, _Backward]:
        """Compute γ (x − mean)/√(variance + ε) + β over the last axis, shape [R, N, width]."""
        gain, shift = self.parameters[f"{name}.weight"].unsqueeze(1), self.parameters[f"{name}.bias"].unsqueeze(1)
        shape = [inputs.shape[-1]]
        plain, mean, scale = _aten.native_layer_norm(inputs, shape, None, None, _EPSILON)

        def back(delta: Tensor) -> Tensor:
            self.gradients[f"{name}.weight"] = (delta * plain).sum(1)
            self.gradients[f"{name}.bias"] = delta.sum(1)
            return _aten.native_layer_norm_backward(  # type: ignore[no-any-return]
                delta * gain, inputs, shape, mean, scale, None, None, [True, False, False]
            )[0]

        return torch.addcmul(shift, plain, gain), back

    def drop(self, values: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, _Backward]:
        """Drop entries at random and scale up the others.

        Args:
            values: Values, whose entries of one run have the shape `shape`.
            shape: Shape of the tensor that a run alone would change.
        """
        if not self._generators:
            return values, lambda delta: delta
        share = 1 - self._probability
        masks = [
            torch.empty(shape, dtype=values.dtype, device=values.device).bernoulli_(share, generator=generator)
            for generator in self._generators
        ]
        mask = torch.stack(masks).div_(share).view(values.shape)
        return values * mask, lambda delta: delta * mask
