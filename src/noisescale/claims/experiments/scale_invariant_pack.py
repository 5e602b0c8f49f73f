"""A pack of scale-invariant networks, trained step by step in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from noisescale.claims.panel import Floats
from noisescale.datasets import Dataset, load_dataset
from noisescale.families import Factory, FixedReadOut, ModelOptions, family_factory
from noisescale.measure import rotation_angles
from noisescale.named_inputs import one_tensor
from noisescale.parameterizations import reference_width
from noisescale.runs import Run
from noisescale.sweeps import SweepSpec
from noisescale.training import PackTrainer

# A learning rate η and a weight decay λ.
RateAndDecay = tuple[float, float]

NETWORK_WITHOUT_DATA = "MLP of two hidden layers of width 32, batch norm without gains, fixed read-out, B = 32, float64"
NETWORK = f"{NETWORK_WITHOUT_DATA}, digits"
# ε of the normalizations. With torch's default of 1e-5, the network is only approximately scale invariant.
EPSILON = 1e-11

_SPEC: dict[str, Any] = {
    "name": "norms",
    "seeds": 1,
    "model": {"family": "mlp", "depth": 2, "normalization": "batch", "scale_invariant": True},
    "grid": {"parameterization": ["standard"], "width": [32], "batch_size": [32], "learning_rate": [0.1]},
    # A number of steps that no experiment reaches, so that the trainer makes no evaluations on the way.
    "training": {"steps": 10**7, "evaluations": 2, "precision": "float64", "sampling": "with_replacement"},
    "stability": {"seeds": 0},
}


@dataclass(frozen=True)
class NormTrace:
    """Norms, gradients and rotations of R runs with L weight tensors, over T steps.

    Args:
        squares: Squared norm ‖w‖² before the first step and after every step, shape [T + 1, R, L].
        gradients: Squared norm ‖g‖² of the gradient of the batch, shape [T, R, L].
        radial: Inner product ⟨g, w⟩, shape [T, R, L].
        rotations: Angle of each step, in radians, shape [T, R, L].
    """

    squares: Floats
    gradients: Floats
    radial: Floats
    rotations: Floats

    @property
    def unit_gradients(self) -> Floats:
        """‖g‖²·‖w‖², the squared gradient at ‖w‖ = 1, shape [T, R, L]. Its mean over steps estimates S.

        S is the mean squared gradient at ‖w‖ = 1.
        """
        product: Floats = self.gradients * self.squares[:-1]
        return product


class ScaleInvariantPack:
    """A pack of scale-invariant MLPs in float64, one run for each (rate, decay) and seed.

    Hidden layers have 32 units and batch normalization without affine parameters. The read-out is fixed. Batches are
    drawn with replacement. They are therefore independent, as the theory assumes.

    Args:
        pairs: Pairs (η, λ). Each pair is trained with every seed, and the runs of a pair are adjacent.
        seeds: Seeds of the initial weights and of the batches.
        momentum: Momentum of all runs.
        epsilon: ε of the normalizations.
        label_noise: Fraction of labels that are redrawn at random. If it is large, gradients are mostly noise that does
            not change during training.
        dataset: Name of the data set.
        train_size: Number of training examples to use, or None for all of them.
        batch_size: Batch size B, in examples. If it equals `train_size`, every batch has all of these examples.
        read_out: Factor on the weights of the fixed read-out. With a small factor the loss is nearly linear in the
            outputs.
        every_label: Whether each example occurs once with every label, so that there is nothing to learn.
        depth: Number of hidden layers.
    """

    def __init__(
        self,
        pairs: Sequence[RateAndDecay],
        seeds: Sequence[int],
        *,
        momentum: float = 0.0,
        epsilon: float = EPSILON,
        label_noise: float = 0.0,
        dataset: str = "digits",
        train_size: int | None = None,
        batch_size: int = 32,
        read_out: float = 1.0,
        every_label: bool = False,
        depth: int = 2,
    ) -> None:
        data = {"name": dataset, "label_noise": label_noise} | ({"train_size": train_size} if train_size else {})
        sampling = {"sampling": "subset"} if batch_size == train_size else {}
        changes = {
            "seeds": [seeds[0]],
            "dataset": data,
            "grid": _SPEC["grid"] | {"batch_size": [batch_size]},
            "training": _SPEC["training"] | sampling,
            "model": _SPEC["model"] | {"depth": depth},
        }
        spec = SweepSpec.from_dict(_SPEC | changes)
        (template,) = spec.runs()
        loaded = load_dataset(spec.dataset.options(label_noise))
        self.data: Dataset = _with_every_label(loaded) if every_label else loaded
        self.runs: list[Run] = [
            replace(
                template,
                learning_rate=rate,
                weight_decay=decay,
                momentum=momentum,
                seed=seed,
                train_size=len(self.data.x_train),
            )
            for rate, decay in pairs
            for seed in seeds
        ]
        # The gradients of a recorded step, one entry per part of the pack. None if the step is not recorded.
        self._observed: list[dict[str, Tensor]] | None = None
        self._factory = _modified(family_factory(ModelOptions.of_run(template)), epsilon, read_out)
        self.trainer = self._trainer(self.runs)

    def change(self, pairs: Sequence[RateAndDecay]) -> None:
        """Change the rates and decays. Weights, velocities and the sequence of batches are kept.

        Args:
            pairs: (η, λ) of each run.
        """
        self.runs = [
            replace(run, learning_rate=rate, weight_decay=decay)
            for run, (rate, decay) in zip(self.runs, pairs, strict=True)
        ]
        state = self.trainer.state
        self.trainer = self._trainer(self.runs)
        self.trainer.state = state

    def scale(self, factors: Sequence[float]) -> None:
        """Multiply the weights and the velocities.

        Args:
            factors: Factor of each run.
        """
        state = self.trainer.state
        for tensors in (state.parameters, *state.slots.values()):
            for tensor in tensors.values():
                tensor.mul_(torch.tensor(factors, dtype=tensor.dtype).view(-1, *(1,) * (tensor.dim() - 1)))

    def train(self, steps: int) -> None:
        """Train without recording.

        Args:
            steps: Number of steps.
        """
        self.trainer.advance(self.trainer.state.step + steps)

    def record(self, steps: int) -> NormTrace:
        """Train and record every step.

        Args:
            steps: Number of steps.
        """
        weights = self._weights()
        squares, squared_gradients, radial, rotations = [_squares(weights)], [], [], []
        for _ in range(steps):
            self._observed = []
            self.train(1)
            new_weights, gradients = self._weights(), self._gradients()
            squares.append(_squares(new_weights))
            squared_gradients.append(_squares(gradients))
            radial.append(torch.stack([(g * w).sum(1) for g, w in zip(gradients, weights, strict=True)], 1))
            angles = [rotation_angles(w, new) for w, new in zip(weights, new_weights, strict=True)]
            rotations.append(torch.stack(angles, 1))
            weights = new_weights
        self._observed = None
        return NormTrace(*(torch.stack(rows).numpy() for rows in (squares, squared_gradients, radial, rotations)))

    def outputs(self, inputs: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Compute outputs in training mode.

        Args:
            inputs: Inputs of all runs, shape [M, …].
            parameters: Parameters by name, shape [R, …], or None for the current parameters.

        Returns:
            Outputs, shape [R, M, K].
        """
        return self._outputs(inputs, self.trainer.state.parameters if parameters is None else parameters, {})

    def training_losses(self, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Compute the cross-entropy on the whole training set, in training mode.

        Args:
            parameters: Parameters by name, shape [R, …], or None for the current parameters.

        Returns:
            Losses, shape [R], in nats.
        """
        labels = self.data.y_train
        logs = self.outputs(self.inputs, parameters).log_softmax(2)
        return -logs[:, torch.arange(len(labels)), labels].mean(1)

    def predictions(self, inputs: Tensor) -> Tensor:
        """Predict classes in evaluation mode, with the running statistics of the normalizations.

        Args:
            inputs: Inputs of all runs, shape [M, …].

        Returns:
            Classes, shape [R, M].
        """
        state = self.trainer.state
        return self._outputs(inputs, state.parameters, state.buffers).argmax(2)

    def accuracies(self) -> Floats:
        """Return the accuracies on the training set and on the test set, shape [2, R]."""
        parts = (
            (self.inputs, self.data.y_train),
            (one_tensor(self.data.x_test, self.data.name).double(), self.data.y_test),
        )
        accuracies = [(self.predictions(inputs) == labels).double().mean(1) for inputs, labels in parts]
        return torch.stack(accuracies).numpy()

    @property
    def inputs(self) -> Tensor:
        """The inputs of the training set, in float64."""
        return one_tensor(self.data.x_train, self.data.name).double()

    def _outputs(self, inputs: Tensor, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Tensor:
        """Compute outputs [R, M, K], in evaluation mode if there are buffers [R, …] and in training mode otherwise."""
        module = self._factory(self.runs[0].width, self.data.input_shape, self.data.num_classes).double()
        module.train(not buffers)
        state = {**parameters, **buffers}
        outputs = [
            torch.func.functional_call(module, {name: tensor[run] for name, tensor in state.items()}, (inputs,))
            for run in range(len(next(iter(parameters.values()))))
        ]
        return torch.stack(outputs).detach()

    def _trainer(self, runs: Sequence[Run]) -> PackTrainer:
        return PackTrainer(
            runs,
            self.data,
            self._factory,
            reference_width=reference_width(runs[0].width),
            kernel="vmap",
            on_step=self._observe,
        )

    def _observe(self, step: int, part: slice, gradients: Mapping[str, Tensor]) -> None:
        """Store the gradients of a recorded step. The trainer calls this for the parts of the pack in order."""
        if self._observed is not None:
            self._observed.append({name: gradient.flatten(1).clone() for name, gradient in gradients.items()})

    def _gradients(self) -> list[Tensor]:
        """Return the gradients of the last step, shape [R, P] for each weight tensor."""
        parts = self._observed or []
        return [torch.cat([part[name] for part in parts]) for name in self.trainer.state.parameters]

    def _weights(self) -> list[Tensor]:
        return [tensor.flatten(1).clone() for tensor in self.trainer.state.parameters.values()]


def in_words(pairs: Sequence[RateAndDecay]) -> str:
    """Write pairs of a rate and a decay as part of a sentence.

    Args:
        pairs: (η, λ) of each pair.
    """
    return ", ".join(f"({rate:g}, {decay:g})" for rate, decay in pairs)


def _with_every_label(data: Dataset) -> Dataset:
    inputs = one_tensor(data.x_train, data.name)
    labels = torch.arange(data.num_classes).repeat_interleave(len(inputs))
    return replace(data, x_train=inputs.repeat(data.num_classes, *[1] * len(data.input_shape)), y_train=labels)


def _modified(factory: Factory, epsilon: float, read_out: float) -> Factory:
    def build(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        module = factory(width, shape, classes)
        for part in module.modules():
            if hasattr(part, "eps"):
                part.eps = epsilon  # type: ignore[assignment]
            if isinstance(part, FixedReadOut):
                part.weight *= read_out
        return module

    return build


def _squares(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.square().sum(1) for tensor in tensors], 1)
