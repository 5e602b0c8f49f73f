"""A model, a loss and data as functions of one flat vector of parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn.attention import SDPBackend, sdpa_kernel

from noisescale.errors import BadInput
from noisescale.families import converted, copy_module, in_mode, select_output
from noisescale.measure.loss_weights import find_weights
from noisescale.measure.problem_checks import (
    check_batch,
    check_copied,
    check_data,
    check_model,
    check_repeatable,
    lower_precision,
)
from noisescale.measure.second_derivative import check_second_derivative
from noisescale.measure.vectorized import vectorized
from noisescale.named_inputs import Inputs, NamedInputs, mapped, take_dictionaries
from noisescale.user_code import runs_user_code

LossFunction = Callable[[Tensor, Tensor], Tensor]
Batch = tuple[Inputs, Tensor]
Data = tuple[Inputs | Mapping[str, Tensor], Tensor] | Iterable[tuple[Inputs | Mapping[str, Tensor], Tensor]]
Mode = Literal["eval", "train"]

# Number of examples in one forward pass if the data are two tensors.
CHUNK = 256

# Largest number of elements in the per-example gradients that are computed at once: 256 MiB in float32.
_MAX_GRADIENT_ELEMENTS = 2**26


class Problem:
    """The input of every instrument: a model, a loss and data. The model is copied and never changed.

    The optimizer has the coordinates θ with W = mθ, where c = m² is the rate multiplier of a parameter. In these
    coordinates, gradients are mg and Hessians are mHm. Vectors are flat, in the order of `named_parameters()`, and
    leave out parameters that take no gradient.

    Args:
        model: Any module. If parts are in float32 and others in float64, the measurement is in float32.
        loss: Loss of outputs and targets, averaged over the batch. The average may be weighted, as torch weights it by
            class weights, by `ignore_index` or by the number of valid tokens. The measured loss is that of all data in
            one batch.
        data: (inputs, targets), or an iterable of such batches with the same examples in every pass, in any order. The
            data may be larger than memory. Inputs may be a dictionary of tensors, which the model then takes.
        population: Size N of the population from which the data were drawn, for gradient noise. None if the data are
            the whole population. `math.inf` if the data are fresh, i.e. were not used for training.
        learning_rate_multipliers: Rate multiplier c of each parameter, by name: numbers, or tensors that broadcast over
            the parameter. None for the coordinates of the module.
        mode: "eval" or "train". In training mode, normalizations use the statistics of each batch, and the loss is the
            mean over batches.
        chunk: Number of examples in one forward pass if the data are two tensors.
        outputs: Key, attribute or index of the entry of the model's outputs that the loss takes. None for a model that
            returns a tensor.

    Raises:
        BadInput: The model, the loss or the data cannot be measured.

    Source:
        Park, Sohl-Dickstein, Le, Smith 2019, section 2.1, for the coordinates.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        data: Data,
        *,
        population: float | None = None,
        learning_rate_multipliers: Mapping[str, float | Tensor] | None = None,
        mode: Mode = "eval",
        chunk: int = CHUNK,
        outputs: str | None = None,
    ) -> None:
        if mode not in ("eval", "train"):
            raise BadInput("mode", "'eval' or 'train'", repr(mode))
        self.mode, self.chunk, self.population, self._loss = mode, chunk, population, loss
        self.model = in_mode(copy_module(model), training=mode == "train")
        if outputs is not None:
            select_output(self.model, outputs, "outputs")
        self._runs_user_code = runs_user_code(self.model)
        trained = {name: tensor.detach() for name, tensor in self.model.named_parameters() if tensor.requires_grad}
        check_model(trained)
        self.names, self._shapes = list(trained), [tensor.shape for tensor in trained.values()]
        self._sizes = [tensor.numel() for tensor in trained.values()]
        self._dtypes = [tensor.dtype for tensor in trained.values()]
        # A frozen part takes inputs in its precision too.
        self._precisions = {tensor.dtype for tensor in self.model.parameters() if tensor.is_floating_point()}
        precision = lower_precision([*self._dtypes, *self._precisions])
        self.point = torch.cat([tensor.flatten().to(precision) for tensor in trained.values()])
        self.coordinates = "module" if learning_rate_multipliers is None else "optimizer"
        self.scale = self._flat_scale(trained, learning_rate_multipliers)
        self._data = check_data(data, self._precisions)
        if isinstance(next(iter(self.batches()))[0], NamedInputs):
            take_dictionaries(self.model, "model")
        sizes = [len(inputs) for inputs, _ in self.batches()]
        self.examples, self._batch_count = sum(sizes), len(sizes)
        check_repeatable(self)
        check_copied(self, model)
        # None if all examples have the same weight in the loss, else their weights and the sum over the data.
        self._weights = find_weights(self)
        self._is_curvature_checked = False

    def with_scale(self, scale: Tensor, coordinates: str) -> Problem:
        """Return the problem in other coordinates.

        Args:
            scale: Factor of gradients, shape [P]. A Hessian is multiplied by it on both sides.
            coordinates: Name of the coordinates.
        """
        transformed = copy.copy(self)
        transformed.scale, transformed.coordinates = scale, coordinates
        return transformed

    def with_precision(self, dtype: torch.dtype) -> Problem:
        """Return the problem with a copy of the model, and of a loss that is a module, in another precision.

        Batches keep their precision, so convert them too.

        Args:
            dtype: Precision, float32 or float64.
        """
        problem = copy.copy(self)
        problem.model, problem.point = converted(copy_module(self.model), dtype), self.point.to(dtype)
        problem.scale, problem._dtypes = self.scale.to(dtype), [dtype] * len(self._dtypes)
        if isinstance(self._loss, nn.Module):
            problem._loss = converted(copy.deepcopy(self._loss), dtype)
        return problem

    @property
    def size(self) -> int:
        """Number P of parameters."""
        return len(self.point)

    def batches(self) -> Iterator[Batch]:
        """Yield the data on the device of the model, in chunks or in the given batches."""
        device = self.point.device
        if isinstance(self._data, tuple):
            inputs, targets = self._data
            for start in range(0, len(inputs), self.chunk):
                part = slice(start, start + self.chunk)
                yield mapped(inputs[part], lambda tensor: tensor.to(device)), targets[part].to(device)
        else:
            for batch in self._data:
                inputs, targets = check_batch(batch, self._precisions)
                yield mapped(inputs, lambda tensor: tensor.to(device)), targets.to(device)

    def weighted_batches(self) -> Iterator[tuple[float, Batch]]:
        """Yield each batch with its share of the loss: of the batches in mode "train", else of the examples' weights.

        A batch whose targets are all ignored is left out in mode "eval".
        """
        for batch in self.batches():
            if share := self.share(batch):
                yield share, batch

    def share(self, batch: Batch) -> float:
        """Return the share of a batch in the loss of all data."""
        if self.mode == "train":
            return 1 / self._batch_count
        if self._weights is None:
            return len(batch[0]) / self.examples
        weights, total = self._weights
        return float(weights.total(batch[1])) / total

    def relative_weights(self, targets: Tensor) -> Tensor:
        """Return the weights of examples in the loss, relative to their mean over the data, shape [B].

        Args:
            targets: Targets of the examples, shape [B, …].
        """
        if self._weights is None:
            return torch.ones(len(targets), dtype=torch.float64, device=targets.device)
        weights, total = self._weights
        return weights.of(targets) * (self.examples / total)

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Split a flat vector, shape [P], into tensors by parameter name, each in the precision of its parameter."""
        described = zip(self.names, torch.split(vector, self._sizes), self._shapes, self._dtypes, strict=True)
        return {name: part.view(shape).to(dtype) for name, part, shape, dtype in described}

    def outputs(self, vector: Tensor, inputs: Inputs) -> Tensor:
        """Compute the outputs of the model at other parameters.

        Args:
            vector: Parameters in the coordinates of the module, shape [P].
            inputs: Inputs, shape [B, …].

        Raises:
            BadInput: The model returns something other than one tensor.
        """
        parameters = self.unflatten(vector)
        if self._runs_user_code:
            # A pass may change its weights in place, which torch refuses for parts of a vector.
            parameters = {name: part.clone() for name, part in parameters.items()}
        # A copy, because a model may change its inputs in place.
        outputs = functional_call(self.model, parameters, (inputs.clone(),))
        if not isinstance(outputs, Tensor):
            raise BadInput("model", "outputs that are one tensor", type(outputs).__name__)
        return outputs

    def loss_at(self, vector: Tensor, batch: Batch) -> Tensor:
        """Compute the mean loss of a batch at other parameters, in the coordinates of the module."""
        return self._loss(self.outputs(vector, batch[0]), batch[1])

    def loss_of_outputs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the mean loss of outputs."""
        return self._loss(outputs, targets)

    def loss(self) -> float:
        """Compute the mean loss over the data."""
        with torch.no_grad():
            return sum(weight * float(self.loss_at(self.point, batch)) for weight, batch in self.weighted_batches())

    def gradient(self) -> Tensor:
        """Compute the gradient of the mean loss over the data, shape [P], in these coordinates and in float64."""
        total = torch.zeros_like(self.point, dtype=torch.float64)
        for weight, batch in self.weighted_batches():
            total += weight * self.batch_gradient(batch)
        return total

    def batch_gradient(self, batch: Batch) -> Tensor:
        """Compute the gradient of the mean loss of a batch, shape [P], in these coordinates."""
        return self.loss_and_gradient_at(self.point, batch)[1] * self.scale

    def per_example_gradients(self) -> Iterator[Tensor]:
        """Yield the gradients of single examples in these coordinates, in chunks of shape [b, P].

        Their mean is the gradient of the loss of all data. If the examples have weights in the loss, the gradient of an
        example is multiplied by its weight over the mean weight.

        Raises:
            BadInput: The mode is "train", where the loss of an example depends on its batch.
        """
        if self.mode == "train":
            required = "mode 'eval' for gradients of single examples: in training mode a loss depends on its batch"
            raise BadInput("mode", f"{required}; batch_gradient_noise measures the noise of whole batches", "'train'")

        def example_loss(point: Tensor, inputs: Inputs, targets: Tensor) -> Tensor:
            return self.loss_at(point, (inputs.unsqueeze(0), targets.unsqueeze(0)))

        over_examples = vectorized(grad(example_loss), in_dims=(None, 0, 0))
        chunk = max(1, _MAX_GRADIENT_ELEMENTS // self.size)
        for batch in self.batches():
            for start in range(0, len(batch[1]), chunk):
                inputs, targets = batch[0][start : start + chunk], batch[1][start : start + chunk]
                weights = self.relative_weights(targets).to(self.point)
                try:
                    gradients = over_examples(self.point, inputs, targets)
                except RuntimeError:  # an operation that cannot be vectorized
                    gradients = torch.zeros(len(inputs), self.size).to(self.point)
                    for place in weights.nonzero().flatten().tolist():
                        part = slice(place, place + 1)
                        _, gradients[place] = self.loss_and_gradient_at(self.point, (inputs[part], targets[part]))
                if self._weights is not None:
                    # The loss of an ignored example alone is NaN.
                    gradients = torch.where(weights[:, None] != 0, weights[:, None] * gradients, 0.0)
                yield gradients * self.scale

    def hessian_product(self, vector: Tensor) -> Tensor:
        """Multiply the Hessian of the mean loss over the data with a vector, in these coordinates.

        Args:
            vector: Vector of any precision, shape [P].

        Raises:
            BadInput: An operation of the model or the loss has no second derivative.
        """
        total = torch.zeros_like(vector)
        for weight, batch in self.weighted_batches():
            total += weight * self.batch_hessian_product(batch, vector)
        return total

    def batch_hessian_product(self, batch: Batch, vector: Tensor) -> Tensor:
        """Multiply the Hessian of the mean loss of a batch with a vector, as `hessian_product` does for all data."""
        point = self.point.clone().requires_grad_()
        with differentiable_twice(self.model):
            (slope,) = torch.autograd.grad(self.loss_at(point, batch), point, create_graph=True)
        along = (slope * (self.scale * vector).to(slope)).sum()
        if not along.requires_grad:  # a loss that is linear in every parameter
            return torch.zeros_like(vector)
        try:
            (product,) = torch.autograd.grad(along, point, materialize_grads=True)
        except RuntimeError as error:  # the error of torch for an operation without a second derivative
            line = str(error).strip().splitlines()[0]
            raise BadInput("model and loss", "operations that have a second derivative", line) from None
        return (product * self.scale).to(vector)

    def check_curvature(self) -> None:
        """Check the second derivatives on a few examples, once for a problem.

        Raises:
            BadInput: An operation of the model or the loss has no second derivative, or a wrong one.
        """
        if not self._is_curvature_checked:
            check_second_derivative(self)
            self._is_curvature_checked = True

    def loss_and_gradient_at(self, point: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the mean loss of a batch and its gradient, shape [P], in the coordinates of the module.

        Args:
            point: Parameters in the coordinates of the module, shape [P].
            batch: Inputs and targets.
        """
        point = point.clone().requires_grad_()
        with _without_fused_recurrence(self.model):
            loss = self.loss_at(point, batch)
            (gradient,) = torch.autograd.grad(loss, point)
        return loss.detach(), gradient

    def _flat_scale(self, trained: dict[str, Tensor], multipliers: Mapping[str, float | Tensor] | None) -> Tensor:
        """Return √c as a flat vector, shape [P]."""
        if multipliers is None:
            return torch.ones_like(self.point)
        missing = [name for name in trained if name not in multipliers]
        unknown = [name for name in multipliers if name not in trained]
        if missing or unknown:
            got = f"no {missing[0]}" if missing else f"{unknown[0]}, which is not a trained parameter"
            raise BadInput("learning_rate_multipliers", "one entry for each parameter that takes a gradient", got)
        parts = [
            torch.as_tensor(multipliers[name], dtype=tensor.dtype, device=tensor.device).expand_as(tensor).flatten()
            for name, tensor in trained.items()
        ]
        flat = torch.cat(parts).to(self.point.dtype)
        if not (flat > 0).all():
            raise BadInput("learning_rate_multipliers", "numbers above 0", float(flat.min()))
        return flat.sqrt()


def _without_fused_recurrence(model: nn.Module) -> AbstractContextManager[None]:
    """Switch cuDNN off for recurrent layers: in evaluation mode it has no gradient, and never a second derivative."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    return torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()


@contextmanager
def differentiable_twice(model: nn.Module) -> Iterator[None]:
    """Switch fused attention and fused recurrent layers off, because they have no second derivative.

    Args:
        model: The model of the forward pass inside.
    """
    with sdpa_kernel(SDPBackend.MATH), _without_fused_recurrence(model):
        yield
