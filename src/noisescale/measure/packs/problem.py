"""R networks of one architecture: their losses and the derivatives, as functions of flat vectors of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from noisescale.families import copy_module, in_mode, mlp_layers
from noisescale.measure.packs.mlp import GradientMoments, PerExample, PlainMLP, Tensors
from noisescale.named_inputs import Inputs
from noisescale.user_code import runs_user_code

Product = Callable[[Tensor], Tensor]

# Largest number of elements in the activations whose autograd graph is kept between products: 128 MiB in float32. A
# larger problem repeats the forward passes for each product.
KEPT_NUMBERS = 2**25

# Largest number of elements in the per-example gradients that are computed at once: 4 MiB in float32, which fit into
# the cache.
_MAX_GRADIENT_ELEMENTS = 2**20


class PackProblem:
    """R networks, their losses on the same examples, and the derivatives in the coordinates of the optimizer.

    In these coordinates W = mθ, where c = m² is the rate multiplier of a parameter. Gradients are mg and Hessians are
    mHm. Vectors are flat, of shape [R, P]. The module is in evaluation mode.

    Args:
        module: The module. Its forward pass is used, its parameters are not.
        per_example: A function from outputs [..., K] and targets [..., K] to losses [...].
        parameters: Parameters by name, shape [R, …] each.
        buffers: Buffers that differ between runs, by name, shape [R, …] each.
        multipliers: Rate multipliers c by parameter, shape [R, …] each. They broadcast over the parameter.
        inputs: Inputs, shape [n, …].
        targets: Targets, shape [n, …].
        numbers: Number of elements that one example needs for the backward pass of the module.
        packable: Whether `torch.func.vmap` can compute the module for several runs at once.
    """

    def __init__(
        self,
        module: nn.Module,
        per_example: PerExample,
        parameters: Tensors,
        buffers: Tensors,
        multipliers: Tensors,
        inputs: Inputs,
        targets: Tensor,
        *,
        numbers: int,
        packable: bool = True,
    ) -> None:
        self._module = in_mode(copy_module(module), training=False)
        self._per_example, self._packable = per_example, packable
        self._runs_user_code = runs_user_code(module)
        self.parameters, self.multipliers, self._buffers = parameters, multipliers, buffers
        self.inputs, self.targets, self._numbers = inputs, targets, numbers
        self.scale = self._flat(
            {name: multipliers[name].sqrt().expand_as(tensor) for name, tensor in parameters.items()}
        )
        self.point = self._flat(parameters)
        layers = mlp_layers(module)
        self._plain = None if layers is None else PlainMLP(layers, per_example, parameters)

    @property
    def runs(self) -> int:
        """Number R of runs."""
        return len(self.point)

    @property
    def size(self) -> int:
        """Number P of parameters of one network."""
        return self.point.shape[1]

    @property
    def examples(self) -> int:
        """Number n of examples."""
        return len(self.inputs)

    def of_runs(self, index: Tensor) -> PackProblem:
        """Return the problem of some of the runs.

        Args:
            index: Indices of the runs.
        """
        parameters, buffers, multipliers = (
            {name: tensor[index] for name, tensor in tensors.items()}
            for tensors in (self.parameters, self._buffers, self.multipliers)
        )
        return PackProblem(
            self._module, self._per_example, parameters, buffers, multipliers, self.inputs, self.targets,
            numbers=self._numbers, packable=self._packable,
        )  # fmt: skip

    def gradients(self) -> Tensor:
        """Compute the gradient of the mean loss of each run, shape [R, P], in these coordinates."""
        total = torch.zeros_like(self.point)
        for part in self._parts():
            point = self.point.detach().requires_grad_()
            with torch.enable_grad():
                loss = self._summed_loss(point, self.inputs[part], self.targets[part])
                (gradients,) = torch.autograd.grad(loss, point, materialize_grads=True)
            total += gradients
        return total * self.scale / self.examples

    def outputs(self, point: Tensor, inputs: Inputs) -> Tensor:
        """Compute outputs, shape [R, b, K], of all runs on the same inputs.

        Args:
            point: Parameters in the coordinates of the module, shape [R, P].
            inputs: Inputs, shape [b, …].
        """

        def of_run(parameters: Tensors, buffers: Tensors) -> Tensors:
            return {"outputs": self._forward(parameters, buffers, inputs)}

        return self._over_runs(of_run, self.unflatten(point))["outputs"]

    def _forward(self, parameters: Tensors, buffers: Tensors, inputs: Inputs) -> Tensor:
        """Compute outputs of one run. Copies, because a pass of the user's may change what it is given."""
        if self._runs_user_code:
            parameters, buffers = (
                {name: t.clone() for name, t in tensors.items()} for tensors in (parameters, buffers)
            )
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no rule for `vmap` and no second derivative
            outputs: Tensor = functional_call(self._module, (parameters, buffers), (inputs.clone(),))
        return outputs

    def over_layers(self, of: Callable[[Any, Tensor, Tensor], Tensor | None]) -> Tensors:
        """Compute a number for each linear and convolutional layer, averaged over chunks of the examples.

        Args:
            of: A function that computes the number for one run from a layer, its inputs and its outputs. It returns
                None to leave the layer out.

        Returns:
            The numbers by layer name, shape [R] each.
        """
        total: Tensors = {}
        for part in self._parts():
            for name, numbers in self._layer_numbers(of, self.inputs[part]).items():
                weighted = numbers * len(self.inputs[part]) / self.examples
                total[name] = total.get(name, torch.zeros_like(numbers)) + weighted
        return total

    def _layer_numbers(self, of: Callable[[Any, Tensor, Tensor], Tensor | None], inputs: Inputs) -> Tensors:
        def of_run(parameters: Tensors, buffers: Tensors) -> Tensors:
            numbers: Tensors = {}

            def hook(name: str) -> Callable[..., None]:
                def store(layer: nn.Module, arguments: tuple[Tensor], outputs: Tensor) -> None:
                    number = of(layer, arguments[0], outputs)
                    if number is not None:
                        numbers[name] = number

                return store

            handles = [part.register_forward_hook(hook(name)) for name, part in self._layers()]
            try:
                self._forward(parameters, buffers, inputs)
            finally:
                for handle in handles:
                    handle.remove()
            return numbers

        with torch.no_grad():
            return self._over_runs(of_run, self.parameters)

    def _over_runs(self, of_run: Callable[[Tensors, Tensors], Tensors], parameters: Tensors) -> Tensors:
        """Apply a function of the parameters and buffers of one run to all runs, at once if the module allows it."""
        if self._packable:
            return vmap(of_run)(parameters, self._buffers)
        results = [of_run(_select_run(parameters, run), _select_run(self._buffers, run)) for run in range(self.runs)]
        return {name: torch.stack([tensors[name] for tensors in results]) for name in results[0]}

    def hessian_products(self) -> Product:
        """Return the function V ↦ HV, shape [R, P] each, where H is the Hessian of the mean loss of each run."""
        if self._plain is None:
            return self._products(self._slope, self._curve)
        return self._products(self._plain.record, self._plain.multiply)

    def tangent_products(self) -> Product:
        """Return the function V ↦ M^½JᵀJM^½V/n. Its nonzero eigenvalues are those of the tangent kernel JMJᵀ/n."""
        return self._products(self._pull, self._push)

    def gradient_moments(self, few: int) -> GradientMoments:
        """Compute moments of the per-example gradients, and the Gram matrix of the first gradients.

        Args:
            few: Number of gradients in the Gram matrix.
        """
        if self._plain is not None and self._multipliers_are_scalars and len(self._parts()) == 1:
            return self._plain.moments(self._plain.record(self.inputs, self.targets), self.multipliers, few)
        mean = self.gradients()
        squares: list[Tensor] = []
        along: list[Tensor] = []
        gram_gradients: list[Tensor] = []
        for part in self.per_example_gradients(_MAX_GRADIENT_ELEMENTS):
            squares.append(part.square().sum(2, dtype=torch.float64))
            along.append(torch.bmm(part, mean.unsqueeze(2)).squeeze(2).double())
            if sum(gradients.shape[1] for gradients in gram_gradients) < few:
                gram_gradients.append(part[:, :few].double())
        rows = torch.cat(gram_gradients, 1)[:, :few]
        norms = mean.double().square().sum(1)
        return GradientMoments(torch.cat(squares, 1), torch.cat(along, 1), norms, rows @ rows.mT)

    def exact_hessian_trace(self) -> Tensor | None:
        """Compute the exact trace of each Hessian, shape [R], for plain ReLU MLPs. Return None for other modules."""
        if self._plain is None or not self._plain.piecewise_linear or not self._multipliers_are_scalars:
            return None
        total = self.point.new_zeros(self.runs, dtype=torch.float64)
        # The Jacobian of each output takes as much memory as the activations.
        for part in self._parts(self._plain.outputs):
            recorded = self._plain.record(self.inputs[part], self.targets[part])
            total += self._plain.trace(recorded, self.multipliers)
        return total / self.examples

    def per_example_gradients(self, together: int) -> Iterator[Tensor]:
        """Yield the gradients of single examples, in chunks of shape [R, b, P].

        Args:
            together: Largest number of elements in a chunk.
        """
        chunk = max(1, together // (self.runs * self.size))

        def example_loss(parameters: Tensors, buffers: Tensors, inputs: Inputs, targets: Tensor) -> Tensor:
            outputs = self._forward(parameters, buffers, inputs.unsqueeze(0))
            return self._per_example(outputs, targets.unsqueeze(0)).sum()

        over_examples = vmap(grad(example_loss), in_dims=(None, None, 0, 0))
        for begin in range(0, self.examples, chunk):
            examples = self.inputs[begin : begin + chunk], self.targets[begin : begin + chunk]
            if self._packable:
                gradients = vmap(over_examples, in_dims=(0, 0, None, None))(self.parameters, self._buffers, *examples)
                flat = torch.cat([gradients[name].flatten(2) for name in self.parameters], 2)
            else:
                flat = torch.stack([self._single_gradients(run, *examples) for run in range(self.runs)])
            yield flat * self.scale.unsqueeze(1)

    def unflatten(self, point: Tensor) -> Tensors:
        """Split flat vectors, shape [R, P], into tensors by name, shape [R, …] each."""
        sizes = [tensor[0].numel() for tensor in self.parameters.values()]
        parts = dict(zip(self.parameters, torch.split(point, sizes, dim=1), strict=True))
        return {name: parts[name].reshape(tensor.shape) for name, tensor in self.parameters.items()}

    @property
    def _multipliers_are_scalars(self) -> bool:
        """Whether each tensor of a run has a single multiplier, not one for each row."""
        return all(multiplier.numel() == self.runs for multiplier in self.multipliers.values())

    def _layers(self) -> list[tuple[str, nn.Module]]:
        """Return the linear and convolutional layers whose weights are trained, by name."""
        kinds = (nn.Linear, nn.Conv2d)
        named = [(name, part) for name, part in self._module.named_modules() if isinstance(part, kinds)]
        return [(name, part) for name, part in named if f"{name}.weight" in self.parameters]

    def _flat(self, tensors: Tensors) -> Tensor:
        return torch.cat([tensors[name].flatten(1) for name in self.parameters], 1)

    def _single_gradients(self, run: int, inputs: Inputs, targets: Tensor) -> Tensor:
        """Compute per-example gradients of one run, shape [b, P], with one backward pass for each example."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in _select_run(self.parameters, run).items()}
        buffers = _select_run(self._buffers, run)
        rows = []
        with torch.enable_grad():
            for place in range(len(inputs)):
                part = slice(place, place + 1)
                outputs = self._forward(leaves, buffers, inputs[part])
                loss = self._per_example(outputs, targets[part]).sum()
                gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
                rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
        return torch.stack(rows)

    def _products(
        self,
        record: Callable[[Inputs, Tensor], Any],
        multiply: Callable[[Any, Tensor], Tensor],
    ) -> Product:
        """Return a product that uses a recorded pass. The pass is kept if it fits into memory, otherwise repeated."""
        parts = self._parts()
        recorded = self._record(record, parts[0]) if len(parts) == 1 else None

        def product(vectors: Tensor) -> Tensor:
            along, total = self.scale * vectors, torch.zeros_like(vectors)
            for part in parts:
                with torch.enable_grad():
                    total += multiply(recorded if recorded is not None else self._record(record, part), along)
            return total * self.scale / self.examples

        return product

    def _parts(self, times: int = 1) -> list[slice]:
        """Split the examples into chunks, so that `times` times a chunk's activations fit into `KEPT_NUMBERS`."""
        chunk = max(1, KEPT_NUMBERS // (self.runs * self._numbers * times))
        return [slice(begin, begin + chunk) for begin in range(0, self.examples, chunk)]

    def _record(self, record: Callable[[Inputs, Tensor], Any], part: slice) -> Any:
        with torch.enable_grad():
            return record(self.inputs[part], self.targets[part])

    def _summed_loss(self, point: Tensor, inputs: Inputs, targets: Tensor) -> Tensor:
        """Sum the losses over runs and examples. The loss of a run depends only on its own parameters."""
        return self._per_example(self.outputs(point, inputs), targets.expand(self.runs, *targets.shape)).sum()

    def _slope(self, inputs: Inputs, targets: Tensor) -> tuple[Tensor, ...]:
        point = self.point.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self._summed_loss(point, inputs, targets), point, create_graph=True)
        return point, slope

    @staticmethod
    def _curve(recorded: tuple[Tensor, ...], along: Tensor) -> Tensor:
        point, slope = recorded
        if not slope.requires_grad:  # a loss that is linear in every parameter
            return torch.zeros_like(along)
        (product,) = torch.autograd.grad(slope, point, along, retain_graph=True, materialize_grads=True)
        return product

    def _pull(self, inputs: Inputs, targets: Tensor) -> tuple[Tensor, ...]:
        point = self.point.detach().requires_grad_()
        outputs = self.outputs(point, inputs)
        # Jv is the derivative of Jᵀu with respect to u. It takes two backward passes, which every operation supports.
        probe = torch.zeros_like(outputs, requires_grad=True)
        (pulled,) = torch.autograd.grad(outputs, point, probe, create_graph=True)
        return point, outputs, probe, pulled

    @staticmethod
    def _push(recorded: tuple[Tensor, ...], along: Tensor) -> Tensor:
        point, outputs, probe, pulled = recorded
        (pushed,) = torch.autograd.grad(pulled, probe, along, retain_graph=True)
        (product,) = torch.autograd.grad(outputs, point, pushed, retain_graph=True)
        return product


def _select_run(tensors: Tensors, run: int) -> Tensors:
    return {name: tensor[run] for name, tensor in tensors.items()}
