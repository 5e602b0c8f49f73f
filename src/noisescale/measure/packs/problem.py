"""What the instruments of a pack look at: R networks of one module, as functions of R flat vectors of parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from noisescale.families import mlp_layers
from noisescale.measure.packs.mlp import GradientMoments, PerExample, PlainMLP, Tensors

Product = Callable[[Tensor], Tensor]

# Numbers of activations whose graph is kept from product to product, 128 MiB in float32; beyond it the passes are
# repeated chunk after chunk.
KEPT_NUMBERS = 2**25

# Numbers of per-example gradients that are computed at once, 4 MiB in float32: what stays in a cache.
_GRADIENTS_TOGETHER = 2**20


class PackProblem:
    """R networks, the loss of each on the same examples, and its derivatives in the optimizer's coordinates.

    With W = mθ and c = m² a parameter's rate multiplier, gradients are mg, Hessians mHm, all in flat vectors [R, P].
    The module is in evaluation mode.

    Args:
        module: Supplies the forward pass.
        per_example: (outputs [..., K], targets [..., K]) → losses [...].
        parameters: [R, …] each.
        buffers: [R, …] each.
        multipliers: C by name, [R, …] each, to be broadcast over the parameter.
        inputs: [n, …].
        targets: [n, K].
        numbers: That one example leaves behind on its way through the module.
        packable: Whether `torch.func.vmap` can compute the module for several runs at once.
    """

    def __init__(
        self,
        module: nn.Module,
        per_example: PerExample,
        parameters: Tensors,
        buffers: Tensors,
        multipliers: Tensors,
        inputs: Tensor,
        targets: Tensor,
        *,
        numbers: int,
        packable: bool = True,
    ) -> None:
        self._module, self._per_example, self._packable = copy.deepcopy(module).eval(), per_example, packable
        self.parameters, self.multipliers, self._buffers = parameters, multipliers, buffers
        self.inputs, self.targets, self._numbers = inputs, targets, numbers
        self.scale = self._flat({name: multipliers[name].sqrt().expand_as(one) for name, one in parameters.items()})
        self.point = self._flat(parameters)
        layers = mlp_layers(module)
        self._plain = None if layers is None else PlainMLP(layers, per_example, parameters)

    @property
    def runs(self) -> int:
        """R."""
        return len(self.point)

    @property
    def size(self) -> int:
        """P, the parameters of one network."""
        return self.point.shape[1]

    @property
    def examples(self) -> int:
        """n."""
        return len(self.inputs)

    def of_runs(self, index: Tensor) -> PackProblem:
        """The same of some of the runs, in the order of `index`."""
        own, moving, multipliers = (
            {name: one[index] for name, one in tensors.items()}
            for tensors in (self.parameters, self._buffers, self.multipliers)
        )
        return PackProblem(
            self._module, self._per_example, own, moving, multipliers, self.inputs, self.targets,
            numbers=self._numbers, packable=self._packable,
        )  # fmt: skip

    def gradients(self) -> Tensor:
        """The gradient [R, P] of every network's mean loss, in these coordinates."""
        total = torch.zeros_like(self.point)
        for part in self._parts():
            point = self.point.detach().requires_grad_()
            with torch.enable_grad():
                loss = self._summed_loss(point, self.inputs[part], self.targets[part])
                (found,) = torch.autograd.grad(loss, point, materialize_grads=True)
            total += found
        return total * self.scale / self.examples

    def outputs(self, point: Tensor, inputs: Tensor) -> Tensor:
        """Outputs [R, b, K] at flat parameters [R, P], in the module's coordinates, on the same inputs [b, …]."""

        def one(parameters: Tensors, buffers: Tensors) -> Tensors:
            return {"outputs": functional_call(self._module, (parameters, buffers), (inputs,))}

        return self._over_runs(one, self.unflatten(point))["outputs"]

    def over_layers(self, of: Callable[[Any, Tensor, Tensor], Tensor | None]) -> Tensors:
        """A number [R] of every linear and convolutional layer, by its name: its mean over chunks of the examples.

        Args:
            of: (layer, its inputs, its outputs) of one run → the number, or None to leave the layer out.
        """
        total: Tensors = {}
        for part in self._parts():
            for name, own in self._layer_numbers(of, self.inputs[part]).items():
                total[name] = total.get(name, torch.zeros_like(own)) + own * len(self.inputs[part]) / self.examples
        return total

    def _layer_numbers(self, of: Callable[[Any, Tensor, Tensor], Tensor | None], inputs: Tensor) -> Tensors:
        def one(parameters: Tensors, buffers: Tensors) -> Tensors:
            seen: Tensors = {}

            def hook(name: str) -> Callable[..., None]:
                def note(layer: nn.Module, arguments: tuple[Tensor], outputs: Tensor) -> None:
                    number = of(layer, arguments[0], outputs)
                    if number is not None:
                        seen[name] = number

                return note

            handles = [part.register_forward_hook(hook(name)) for name, part in self._layers()]
            try:
                functional_call(self._module, (parameters, buffers), (inputs,))
            finally:
                for handle in handles:
                    handle.remove()
            return seen

        with torch.no_grad():
            return self._over_runs(one, self.parameters)

    def _over_runs(self, one: Callable[[Tensors, Tensors], Tensors], parameters: Tensors) -> Tensors:
        """What a function of one run's parameters and buffers returns, [R, …] each; at once where the module allows."""
        if self._packable:
            found: Tensors = vmap(one)(parameters, self._buffers)
            return found
        each = [one(_of_run(parameters, run), _of_run(self._buffers, run)) for run in range(self.runs)]
        return {name: torch.stack([own[name] for own in each]) for name in each[0]}

    def hessian_products(self) -> Product:
        """V ↦ HV, [R, P] each, of every network's mean loss."""
        if self._plain is None:
            return self._products(self._slope, self._curve)
        return self._products(self._plain.record, self._plain.multiply)

    def tangent_products(self) -> Product:
        """V ↦ M^½JᵀJM^½V/n, whose eigenvalues are those of the tangent kernel JMJᵀ/n."""
        return self._products(self._pull, self._push)

    def gradient_moments(self, few: int) -> GradientMoments:
        """Moments of the per-example gradients, and the Gram matrix of the first few of them."""
        if self._plain is not None and self._one_a_tensor and len(self._parts()) == 1:
            return self._plain.moments(self._plain.record(self.inputs, self.targets), self.multipliers, few)
        mean = self.gradients()
        squares: list[Tensor] = []
        along: list[Tensor] = []
        first: list[Tensor] = []
        for part in self.per_example_gradients(_GRADIENTS_TOGETHER):
            squares.append(part.square().sum(2, dtype=torch.float64))
            along.append(torch.bmm(part, mean.unsqueeze(2)).squeeze(2).double())
            if sum(own.shape[1] for own in first) < few:
                first.append(part[:, :few].double())
        rows = torch.cat(first, 1)[:, :few]
        norms = mean.double().square().sum(1)
        return GradientMoments(torch.cat(squares, 1), torch.cat(along, 1), norms, rows @ rows.mT)

    def exact_hessian_trace(self) -> Tensor | None:
        """The trace [R] of every network's Hessian where it is cheap, for plain ReLU MLPs; None for others."""
        if self._plain is None or not self._plain.piecewise_linear or not self._one_a_tensor:
            return None
        total = self.point.new_zeros(self.runs, dtype=torch.float64)
        # Jacobians of every output are kept beside the activations.
        for part in self._parts(self.targets.shape[1]):
            recorded = self._plain.record(self.inputs[part], self.targets[part])
            total += self._plain.trace(recorded, self.multipliers)
        return total / self.examples

    def per_example_gradients(self, together: int) -> Iterator[Tensor]:
        """Gradients of single examples' losses, [R, b, P] each, at most so many numbers together."""
        chunk = max(1, together // (self.runs * self.size))

        def one(parameters: Tensors, buffers: Tensors, inputs: Tensor, targets: Tensor) -> Tensor:
            outputs = functional_call(self._module, (parameters, buffers), (inputs.unsqueeze(0),))
            return self._per_example(outputs, targets.unsqueeze(0)).sum()

        over_examples = vmap(grad(one), in_dims=(None, None, 0, 0))
        for begin in range(0, self.examples, chunk):
            own = self.inputs[begin : begin + chunk], self.targets[begin : begin + chunk]
            if self._packable:
                found = vmap(over_examples, in_dims=(0, 0, None, None))(self.parameters, self._buffers, *own)
                flat = torch.cat([found[name].flatten(2) for name in self.parameters], 2)
            else:
                flat = torch.stack([self._single_gradients(run, *own) for run in range(self.runs)])
            yield flat * self.scale.unsqueeze(1)

    def unflatten(self, point: Tensor) -> Tensors:
        """Flat vectors [R, P] as tensors [R, …] by name."""
        sizes = [one[0].numel() for one in self.parameters.values()]
        parts = torch.split(point, sizes, dim=1)
        return {name: part.reshape(one.shape) for (name, one), part in zip(self.parameters.items(), parts, strict=True)}

    @property
    def _one_a_tensor(self) -> bool:
        """Whether each tensor of a run has one multiplier, not one a row."""
        return all(own.numel() == self.runs for own in self.multipliers.values())

    def _layers(self) -> list[tuple[str, nn.Module]]:
        """Linear and convolutional layers whose weight is trained."""
        kinds = (nn.Linear, nn.Conv2d)
        named = [(name, part) for name, part in self._module.named_modules() if isinstance(part, kinds)]
        return [(name, part) for name, part in named if f"{name}.weight" in self.parameters]

    def _flat(self, tensors: Tensors) -> Tensor:
        return torch.cat([tensors[name].flatten(1) for name in self.parameters], 1)

    def _single_gradients(self, run: int, inputs: Tensor, targets: Tensor) -> Tensor:
        """[b, P] of one run, one backward pass each."""
        own = {name: one.detach().requires_grad_() for name, one in _of_run(self.parameters, run).items()}
        rows = []
        with torch.enable_grad():
            for place in range(len(inputs)):
                part = slice(place, place + 1)
                outputs = functional_call(self._module, (own, _of_run(self._buffers, run)), (inputs[part],))
                loss = self._per_example(outputs, targets[part]).sum()
                found = torch.autograd.grad(loss, list(own.values()), materialize_grads=True)
                rows.append(torch.cat([gradient.flatten() for gradient in found]))
        return torch.stack(rows)

    def _products(
        self,
        record: Callable[[Tensor, Tensor], Any],
        multiply: Callable[[Any, Tensor], Tensor],
    ) -> Product:
        """Products from a recorded pass: kept from call to call where it fits, else recorded again for each chunk."""
        parts = self._parts()
        kept = self._recorded(record, parts[0]) if len(parts) == 1 else None

        def product(vectors: Tensor) -> Tensor:
            along, total = self.scale * vectors, torch.zeros_like(vectors)
            for part in parts:
                with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
                    total += multiply(kept if kept is not None else self._recorded(record, part), along)
            return total * self.scale / self.examples

        return product

    def _parts(self, times: int = 1) -> list[slice]:
        """Chunks of the examples whose activations, or so many times as many numbers, may be kept together."""
        chunk = max(1, KEPT_NUMBERS // (self.runs * self._numbers * times))
        return [slice(begin, begin + chunk) for begin in range(0, self.examples, chunk)]

    def _recorded(self, record: Callable[[Tensor, Tensor], Any], part: slice) -> Any:
        # Fused attention has no second derivative.
        with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            return record(self.inputs[part], self.targets[part])

    def _summed_loss(self, point: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Over runs and examples: no run's loss depends on another's parameters."""
        return self._per_example(self.outputs(point, inputs), targets.expand(self.runs, *targets.shape)).sum()

    def _slope(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        point = self.point.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self._summed_loss(point, inputs, targets), point, create_graph=True)
        return point, slope

    @staticmethod
    def _curve(recorded: tuple[Tensor, ...], along: Tensor) -> Tensor:
        point, slope = recorded
        if not slope.requires_grad:  # a loss linear in every parameter
            return torch.zeros_like(along)
        (found,) = torch.autograd.grad(slope, point, along, retain_graph=True, materialize_grads=True)
        return found

    def _pull(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        point = self.point.detach().requires_grad_()
        outputs = self.outputs(point, inputs)
        # Jv as the derivative of Jᵀu in u: two backward passes, which every operation has.
        probe = torch.zeros_like(outputs, requires_grad=True)
        (pulled,) = torch.autograd.grad(outputs, point, probe, create_graph=True)
        return point, outputs, probe, pulled

    @staticmethod
    def _push(recorded: tuple[Tensor, ...], along: Tensor) -> Tensor:
        point, outputs, probe, pulled = recorded
        (pushed,) = torch.autograd.grad(pulled, probe, along, retain_graph=True)
        (found,) = torch.autograd.grad(outputs, point, pushed, retain_graph=True)
        return found


def _of_run(tensors: Tensors, run: int) -> Tensors:
    return {name: one[run] for name, one in tensors.items()}
