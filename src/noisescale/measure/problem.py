"""The problem that every instrument measures: a model, a loss and data, as functions of one flat parameter vector."""

from __future__ import annotations

import copy
import math
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

# Numbers of per-example gradients that are computed at once, 256 MiB in float32.
_GRADIENTS_TOGETHER = 2**26

# Examples on which the loss is tried.
_TRIED = 64

_FORMS = "(inputs, targets) as tensors, or an iterable of such batches"

# What rounding may do to a sum over the data in another order, relative to its size.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3}


class Problem:
    """A model, a loss and data, as every instrument takes them; the model is copied and never changed.

    In the optimizer's coordinates θ, W = mθ with c = m² the rate multiplier of a parameter, gradients are mg and
    Hessians mHm. All vectors are flat, in the order of `named_parameters()`, without the parameters that take no
    gradient.

    Args:
        model: Any module.
        loss: (outputs, targets) to their mean over the batch.
        data: (inputs, targets), or an iterable of such batches that gives the same examples at every pass (their order
            does not matter). May be larger than memory.
        population: The size N of the population that the data were drawn from, for gradient noise. None: the data are
            the whole population. `math.inf`: the data are fresh.
        learning_rate_multipliers: c by parameter name, numbers or tensors that broadcast over the parameter. None: the
            coordinates of the module.
        mode: "eval", or "train": normalization then uses the statistics of each batch, and the loss is the mean over
            the batches as they come.
        chunk: Examples that pass at once where the data are two tensors.

    Raises:
        BadInput: Data, a loss or a model that cannot be measured; the message says why.

    Source:
        Coordinates: W = mθ; Park, Sohl-Dickstein, Le, Smith 2019, section 2.1.
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
    ) -> None:
        if mode not in ("eval", "train"):
            raise BadInput("mode", "'eval' or 'train'", repr(mode))
        self.mode, self.chunk, self.population, self._loss = mode, chunk, population, loss
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
        sizes = [len(inputs) for inputs, _ in self.batches()]
        self.examples, self._batch_count = sum(sizes), len(sizes)
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
            for batch in self._data:
                inputs, targets = self._checked_batch(batch)
                yield inputs.to(device), targets.to(device)

    def weighted_batches(self) -> Iterator[tuple[float, Batch]]:
        """The batches, each with its share of the loss: by examples, in training mode equal ones."""
        for batch in self.batches():
            yield (1 / self._batch_count if self.mode == "train" else len(batch[0]) / self.examples), batch

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
        return self._plain_gradient(batch) * self.scale

    def per_example_gradients(self) -> Iterator[Tensor]:
        """Gradients of single examples' losses, chunk after chunk, [b, P] each, in these coordinates.

        Raises:
            BadInput: In training mode, where an example's loss depends on the others of its batch.
        """
        if self.mode == "train":
            required = "mode 'eval' for gradients of single examples: in training mode a loss depends on its batch"
            raise BadInput("mode", f"{required}; batch_gradient_noise measures the noise of whole batches", "'train'")

        def one(point: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
            return self.loss_at(point, (inputs.unsqueeze(0), targets.unsqueeze(0)))

        together, most = vmap(grad(one), in_dims=(None, 0, 0)), max(1, _GRADIENTS_TOGETHER // self.size)
        for batch in self.batches():
            for inputs, targets in zip(*(torch.split(part, most) for part in batch), strict=True):
                try:
                    found = together(self.point, inputs, targets)
                except RuntimeError:  # an operation that cannot be vectorised
                    singles = zip(torch.split(inputs, 1), torch.split(targets, 1), strict=True)
                    found = torch.stack([self._plain_gradient(pair) for pair in singles])
                yield found * self.scale

    def _plain_gradient(self, batch: Batch) -> Tensor:
        """In the module's own coordinates."""
        point = self.point.clone().requires_grad_()
        (found,) = torch.autograd.grad(self.loss_at(point, batch), point)
        return found

    def hessian_product(self, vector: Tensor) -> Tensor:
        """The Hessian of the mean loss over the data times a vector [P], in these coordinates."""
        total = torch.zeros_like(vector)
        for weight, batch in self.weighted_batches():
            point = self.point.clone().requires_grad_()
            # Fused attention has no second derivative.
            with sdpa_kernel(SDPBackend.MATH):
                (slope,) = torch.autograd.grad(self.loss_at(point, batch), point, create_graph=True)
            along = (slope * (self.scale * vector).to(slope)).sum()
            try:
                found = torch.autograd.grad(along, point, materialize_grads=True) if along.requires_grad else (None,)
            except RuntimeError as error:  # torch's own word for an operation without one
                line = str(error).strip().splitlines()[0]
                raise BadInput("model and loss", "operations that have a second derivative", line) from None
            (curved,) = found
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
        if isinstance(data, tuple):
            if len(data) != 2 or not all(isinstance(part, Tensor) for part in data):
                raise BadInput("data", _FORMS, "something else")
            self._checked_batch(cast(Batch, data))
        elif isinstance(data, Iterator):
            raise BadInput("data", "an iterable that can be passed over again, e.g. a list of batches", "an iterator")
        elif not isinstance(data, Iterable):
            raise BadInput("data", _FORMS, type(data).__name__)
        elif not any(True for _ in data):
            raise BadInput("data", "at least one batch", "none")
        return data

    def _checked_batch(self, batch: Batch) -> Batch:
        pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
        if not pair or not all(part.dim() for part in batch):
            raise BadInput("data", _FORMS, f"a batch that is a {type(batch).__name__}")
        inputs, targets = batch
        if len(inputs) != len(targets) or not len(inputs):
            got = f"{len(inputs)} inputs and {len(targets)} targets"
            raise BadInput("data", "as many targets as inputs, at least one", got)
        if inputs.is_floating_point() and inputs.dtype != self.point.dtype:
            raise BadInput("data", f"inputs in the model's precision, {self.point.dtype}", str(inputs.dtype))
        return inputs, targets

    def _check_repeatable(self) -> None:
        """Two passes over the data, and two through the model, must give the same."""
        if not self.examples:
            raise BadInput("data", "at least one example", "none")
        first_pass, second_pass = self._fingerprint(), self._fingerprint()
        if not math.isfinite(first_pass):
            raise BadInput("data", "finite inputs and targets", "NaN or infinity")
        if not math.isclose(first_pass, second_pass, rel_tol=1e-9, abs_tol=1e-9):
            batches = " in the same batches, for mode 'train'" if self.mode == "train" else ""
            required = f"the same examples at every pass{batches} (no random augmentation)"
            raise BadInput("data", required, "others at the second")
        inputs = next(iter(self.batches()))[0]
        with torch.no_grad():
            first, second = (self._tried(inputs) for _ in range(2))
            if not torch.equal(first, second) and not torch.allclose(first, second, rtol=1e-4, equal_nan=True):
                required = "outputs that are the same at every pass; in training mode switch dropout off (p = 0)"
                raise BadInput("model", required, "outputs that differ between two passes")
            if not torch.isfinite(first).all():
                raise BadInput("model", "finite outputs on the data", "NaN or infinity")
            if self.mode == "eval" and len(inputs) > 1:
                single, within = self._tried(inputs[:1]), 1e3 * _ROUNDING[first.dtype] / 10
                if not torch.allclose(single, first[:1], rtol=within, atol=within * float(first.abs().max())):
                    required = (
                        "outputs of an example that do not depend on its batch, in mode 'eval' (running statistics)"
                    )
                    raise BadInput("model", required, "outputs that do")

    def _tried(self, inputs: Tensor) -> Tensor:
        try:
            return self.outputs(self.point, inputs)
        except BadInput:
            raise
        except Exception as error:  # a user's model may raise anything
            line = (str(error).strip().splitlines() or [""])[0]
            required = f"a model of inputs of shape {tuple(inputs.shape[1:])}"
            raise BadInput("model", required, f"{type(error).__name__}: {line}") from None

    def _fingerprint(self) -> float:
        """A number that changes with any example; with its batch too where that matters. Not with their order."""
        total = 0.0
        for batch in self.batches():
            rows = [part.detach().cpu().double().flatten(1) if part.dim() > 1 else part.cpu().double()[:, None]
                    for part in batch]  # fmt: skip
            marks = torch.zeros(len(rows[0]), dtype=torch.float64)
            for row in rows:
                generator = torch.Generator().manual_seed(row.shape[1])
                marks += torch.cos(row @ torch.randn(row.shape[1], generator=generator, dtype=torch.float64))
                marks = torch.cos(3 * marks)
            own = float(marks.sum())
            total += math.cos(own) if self.mode == "train" else own
        return total

    def _check_mean(self) -> None:
        """The loss must be the mean of its examples' own: of a batch twice, and of each example alone."""
        inputs, targets = (part[:_TRIED] for part in next(iter(self.batches())))
        with torch.no_grad():
            outputs = self.outputs(self.point, inputs)
            try:
                once = self._loss(outputs, targets)
                twice = self._loss(torch.cat([outputs, outputs]), torch.cat([targets, targets]))
                singles = [self._loss(outputs[k : k + 1], targets[k : k + 1]) for k in range(len(outputs))]
            except Exception as error:  # so may a user's loss
                line = str(error).strip().splitlines()
                raise BadInput(
                    "loss", "a loss of the model's outputs and the targets", line[0] if line else type(error).__name__
                ) from None
        if not isinstance(once, Tensor) or once.dim():
            shape = f"a tensor of shape {tuple(once.shape)}" if isinstance(once, Tensor) else type(once).__name__
            raise BadInput("loss", "one number, the mean over the batch", shape)
        within = _ROUNDING[self.point.dtype]
        if not torch.isclose(once, twice, rtol=within, atol=1e-12):
            got = f"{float(once):.4g} of a batch and {float(twice):.4g} of the same batch twice (a sum?)"
            raise BadInput("loss", "the mean over the batch", got)
        mean = torch.stack(singles).mean()
        if not torch.isclose(once, mean, rtol=within, atol=1e-12):
            got = f"{float(once):.4g} of a batch and {float(mean):.4g} as the mean of its examples (weights?)"
            raise BadInput("loss", "the plain mean of single examples' losses", got)
