"""What every instrument looks at: a model, a loss and data, as functions of one flat vector of parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from noisescale.errors import BadInput

LossFunction = Callable[[Tensor, Tensor], Tensor]
Batch = tuple[Tensor, Tensor]
Data = Batch | Iterable[Batch]
Mode = Literal["eval", "train"]

# Examples that pass through the model at once where the data come as two tensors.
CHUNK = 256

# What rounding may do to a sum over the data in another order, relative to its size.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3}


class Problem:
    """A model, a loss and data; the model is copied and never changed.

    In the optimizer's coordinates θ, W = mθ with c = m² the rate multiplier of a parameter: gradients are mg, Hessians
    mHm. All vectors are flat, in the order of `named_parameters()`, parameters that take no gradient left out.

    Arguments:
        model: any module. loss: (outputs, targets) → their mean over the batch.
        data: (inputs, targets), or an iterable of such batches that can be passed over again and gives the same
            examples each time (their order does not matter). May be larger than memory.
        learning_rate_multipliers: c by parameter name, numbers or tensors that broadcast over it; None measures in the
            module's own coordinates.
        mode: "eval", or "train": normalization then uses each batch's own statistics, and the loss is the mean over the
            batches as they come. chunk: examples that pass at once where the data are two tensors.
    Raises:
        BadInput: data, a loss or a model that cannot be measured; the message says why.
    Source:
        Coordinates: W = mθ; Park, Sohl-Dickstein, Le, Smith 2019, section 2.1.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        data: Data,
        *,
        learning_rate_multipliers: Mapping[str, float | Tensor] | None = None,
        mode: Mode = "eval",
        chunk: int = CHUNK,
    ) -> None:
        if mode not in ("eval", "train"):
            raise BadInput("mode", "'eval' or 'train'", repr(mode))
        self.mode, self.chunk, self._loss = mode, chunk, loss
        self.model = copy.deepcopy(model).train(mode == "train")
        trained = {name: one.detach() for name, one in self.model.named_parameters() if one.requires_grad}
        if not trained:
            raise BadInput("model", "at least one parameter that takes a gradient", "none")
        wild = [name for name, one in trained.items() if not torch.isfinite(one).all()]
        if wild:
            raise BadInput("model", "finite weights", f"NaN or infinity in {wild[0]}")
        kinds = {one.dtype for one in trained.values()}
        if not kinds <= {torch.float32, torch.float64}:
            raise BadInput("model", "parameters in float32 or float64", ", ".join(sorted(map(str, kinds))))
        self.names, self._shapes = list(trained), [one.shape for one in trained.values()]
        self._sizes = [one.numel() for one in trained.values()]
        self.point = torch.cat([one.flatten() for one in trained.values()])
        self.coordinates = "module" if learning_rate_multipliers is None else "optimizer"
        self.scale = self._scales(trained, learning_rate_multipliers)
        self._data = self._checked_data(data)
        self.examples = sum(len(inputs) for inputs, _ in self.batches())
        self._check_repeatable()
        self._check_mean()

    def with_scale(self, scale: Tensor, coordinates: str) -> Problem:
        """The same in other coordinates: gradients are multiplied by `scale` [P], Hessians by it on both sides."""
        other = copy.copy(self)
        other.scale, other.coordinates = scale, coordinates
        return other

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return len(self.point)

    def batches(self) -> Iterator[Batch]:
        """The data, in chunks or as they come, on the model's device."""
        device = self.point.device
        if isinstance(self._data, tuple):
            inputs, targets = self._data
            for start in range(0, len(inputs), self.chunk):
                part = slice(start, start + self.chunk)
                yield inputs[part].to(device), targets[part].to(device)
        else:
            for inputs, targets in self._data:
                yield inputs.to(device), targets.to(device)

    def weighted_batches(self) -> Iterator[tuple[float, Batch]]:
        """The batches, each with its share of the loss: by examples, in training mode equal ones."""
        count = sum(1 for _ in self.batches()) if self.mode == "train" else 0
        for batch in self.batches():
            yield (1 / count if count else len(batch[0]) / self.examples), batch

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """A flat vector as tensors by parameter name."""
        parts = torch.split(vector, self._sizes)
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self._shapes, strict=True)}

    def outputs(self, vector: Tensor, inputs: Tensor) -> Tensor:
        """The model's outputs at a flat vector of parameters, in the module's coordinates."""
        found = functional_call(self.model, self.unflatten(vector), (inputs,))
        if not isinstance(found, Tensor):
            raise BadInput("model", "outputs that are one tensor", type(found).__name__)
        return found

    def loss_at(self, vector: Tensor, batch: Batch) -> Tensor:
        """The mean loss of a batch at a flat vector of parameters."""
        return self._loss(self.outputs(vector, batch[0]), batch[1])

    def loss_of_outputs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of outputs."""
        return self._loss(outputs, targets)

    def loss(self) -> float:
        """The mean loss over the data."""
        with torch.no_grad():
            return sum(weight * float(self.loss_at(self.point, batch)) for weight, batch in self.weighted_batches())

    def gradient(self) -> Tensor:
        """The gradient of the mean loss over the data [P], in these coordinates and in float64."""
        total = torch.zeros_like(self.point, dtype=torch.float64)
        for weight, batch in self.weighted_batches():
            total += weight * self.batch_gradient(batch)
        return total

    def batch_gradient(self, batch: Batch) -> Tensor:
        """The gradient of a batch's mean loss [P], in these coordinates."""
        point = self.point.clone().requires_grad_()
        (found,) = torch.autograd.grad(self.loss_at(point, batch), point)
        return found * self.scale

    def per_example_gradients(self) -> Iterator[Tensor]:
        """Gradients of single examples' losses, chunk after chunk, [b, P] each, in these coordinates.

        Raises:
            BadInput: in training mode, where an example's loss depends on the others of its batch.
        """
        if self.mode == "train":
            required = "mode 'eval' for gradients of single examples: in training mode a loss depends on its batch"
            raise BadInput("mode", f"{required}; batch_gradient_noise measures the noise of whole batches", "'train'")

        def one(point: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
            return self.loss_at(point, (inputs.unsqueeze(0), targets.unsqueeze(0)))

        together = vmap(grad(one), in_dims=(None, 0, 0))
        for inputs, targets in self.batches():
            try:
                found = together(self.point, inputs, targets)
            except RuntimeError:  # an operation that cannot be vectorised
                singles = zip(torch.split(inputs, 1), torch.split(targets, 1), strict=True)
                found = torch.stack([self.batch_gradient(pair) / self.scale for pair in singles])
            yield found * self.scale

    def hessian_product(self, vector: Tensor) -> Tensor:
        """The Hessian of the mean loss over the data times a vector [P], in these coordinates."""
        total = torch.zeros_like(vector)
        for weight, batch in self.weighted_batches():
            point = self.point.clone().requires_grad_()
            # Fused attention has no second derivative.
            with sdpa_kernel(SDPBackend.MATH):
                (slope,) = torch.autograd.grad(self.loss_at(point, batch), point, create_graph=True)
            along = (slope * (self.scale * vector).to(slope)).sum()
            (curved,) = torch.autograd.grad(along, point, materialize_grads=True) if along.requires_grad else (None,)
            if curved is not None:
                total += weight * (curved * self.scale).to(vector)
        return total

    def _scales(self, trained: dict[str, Tensor], multipliers: Mapping[str, float | Tensor] | None) -> Tensor:
        if multipliers is None:
            return torch.ones_like(self.point)
        missing = [name for name in trained if name not in multipliers]
        unknown = [name for name in multipliers if name not in trained]
        if missing or unknown:
            named = f"no {missing[0]}" if missing else f"{unknown[0]}, which is none of them"
            raise BadInput("learning_rate_multipliers", "one entry a parameter that takes a gradient", named)
        parts = [
            torch.as_tensor(multipliers[name], dtype=one.dtype, device=one.device).expand_as(one).flatten()
            for name, one in trained.items()
        ]
        flat = torch.cat(parts)
        if not (flat > 0).all():
            raise BadInput("learning_rate_multipliers", "numbers above 0", float(flat.min()))
        return flat.sqrt()

    def _checked_data(self, data: Data) -> Data:
        kind = self.point.dtype
        if isinstance(data, tuple):
            if len(data) != 2 or not all(isinstance(part, Tensor) for part in data):
                raise BadInput("data", "(inputs, targets) as tensors, or an iterable of such batches", "something else")
            inputs, targets = cast(Batch, data)
            if len(inputs) != len(targets) or not len(inputs):
                got = f"{len(inputs)} inputs and {len(targets)} targets"
                raise BadInput("data", "as many targets as inputs, at least one", got)
            if inputs.is_floating_point() and inputs.dtype != kind:
                raise BadInput("data", f"inputs in the model's precision, {kind}", str(inputs.dtype))
        elif isinstance(data, Iterator):
            raise BadInput("data", "an iterable that can be passed over again, e.g. a list of batches", "an iterator")
        elif not isinstance(data, Iterable):
            raise BadInput("data", "(inputs, targets), or an iterable of such batches", type(data).__name__)
        elif self.mode == "train" and not any(True for _ in data):
            raise BadInput("data", "at least one batch", "none")
        return data

    def _check_repeatable(self) -> None:
        """Two passes over the data, and two through the model, must give the same."""
        if not self.examples:
            raise BadInput("data", "at least one example", "none")
        first_pass, second_pass = (
            torch.stack([torch.stack([part.double().sum() for part in batch]) for batch in self.batches()]).sum(0)
            for _ in range(2)
        )
        if not torch.allclose(first_pass, second_pass, rtol=1e-9, atol=1e-9, equal_nan=True):
            raise BadInput("data", "the same examples at every pass (no random augmentation)", "others at the second")
        batch = next(iter(self.batches()))
        with torch.no_grad():
            first, second = (self.outputs(self.point, batch[0]) for _ in range(2))
        if not torch.equal(first, second) and not torch.allclose(first, second, rtol=1e-4, equal_nan=True):
            required = "outputs that are the same at every pass; in training mode switch dropout off (p = 0)"
            raise BadInput("model", required, "outputs that differ between two passes")
        if not torch.isfinite(first).all():
            raise BadInput("model", "finite outputs on the data", "NaN or infinity")

    def _check_mean(self) -> None:
        """The loss must be a mean: of a batch twice it is the same as of the batch once."""
        inputs, targets = next(iter(self.batches()))
        with torch.no_grad():
            outputs = self.outputs(self.point, inputs)
            try:
                once = self._loss(outputs, targets)
                twice = self._loss(torch.cat([outputs, outputs]), torch.cat([targets, targets]))
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                line = str(error).strip().splitlines()
                raise BadInput(
                    "loss", "a loss of the model's outputs and the targets", line[0] if line else ""
                ) from None
        if once.dim():
            raise BadInput("loss", "one number, the mean over the batch", f"a tensor of shape {tuple(once.shape)}")
        if not torch.isclose(once, twice, rtol=_ROUNDING[self.point.dtype], atol=1e-12):
            got = f"{float(once):.4g} of a batch and {float(twice):.4g} of the same batch twice (a sum?)"
            raise BadInput("loss", "the mean over the batch", got)
