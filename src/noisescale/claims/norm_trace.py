"""Norms, gradients and rotations of a scale-invariant network, step by step, from the packed trainer itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noisescale.claims.claim import Request
from noisescale.datasets import Dataset, load_dataset
from noisescale.families import Factory, ModelOptions, family_factory
from noisescale.families.layers import FixedReadOut
from noisescale.measure.weights import rotation_angles
from noisescale.runs import Run
from noisescale.sweeps import SweepSpec
from noisescale.training import PackTrainer

Floats = NDArray[np.float64]

# ε of the normalizations: at torch's default of 1e-5 the network is scale invariant to that only.
EPSILON = 1e-11


@dataclass(frozen=True)
class NormTrace:
    """What was recorded of R runs with L weight tensors over T steps.

    Arguments:
        squares: [T + 1, R, L], ‖w‖². gradients: [T, R, L], ‖g‖² of the batch's gradient. radial: [T, R, L], ⟨g, w⟩.
        rotations: [T, R, L], angle of each step, in radians.
    """

    squares: Floats
    gradients: Floats
    radial: Floats
    rotations: Floats


class Bench:
    """A pack of scale-invariant MLPs, one run a (rate, decay) and seed, in float64.

    Hidden layers of 32 units, batch normalization without affine parameters, a fixed read-out, batches drawn with
    replacement: independent, as the theory has them. By default two layers and batches of 32 digits.

    Arguments:
        pairs: (η, λ) of the runs, each with every seed. seeds: of initial weights and batches. momentum: of all.
        epsilon: of the normalizations. label_noise: share of labels redrawn; with most of them, gradients are noise
            that does not depend on how far training has come. dataset: a name in `KNOWN_DATASETS`. train_size: of a
            subset, or all. batch_size: B; all examples of the subset, in place of draws, where it is their number.
        read_out: factor on the fixed read-out's weights; with a small one the loss is nearly linear in the outputs.
        every_label: whether each example is there once with every label, so that there is nothing to be learnt.
        depth: hidden layers.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[float, float]],
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
        whole = {"sampling": "subset"} if batch_size == train_size else {}
        changed = {
            "seeds": [seeds[0]], "dataset": data, "grid": _SPEC["grid"] | {"batch_size": [batch_size]},
            "training": _SPEC["training"] | whole, "model": _SPEC["model"] | {"depth": depth},
        }  # fmt: skip
        spec = SweepSpec.from_dict(_SPEC | changed)
        (template,) = spec.runs()
        data_of_spec = load_dataset(spec.dataset.options(label_noise))
        self._data = _under_every_label(data_of_spec) if every_label else data_of_spec
        self.runs: list[Run] = [
            replace(
                template,
                learning_rate=rate,
                weight_decay=decay,
                momentum=momentum,
                seed=seed,
                train_size=len(self._data.x_train),
            )
            for rate, decay in pairs
            for seed in seeds
        ]
        self._factory = _changed(family_factory(ModelOptions.of_run(template)), epsilon, read_out)
        self.trainer = self._trainer(self.runs)

    def change(self, pairs: Sequence[tuple[float, float]]) -> None:
        """Go on with other rates and decays, one (η, λ) a run; weights, velocities and batches stay."""
        self.runs = [
            replace(run, learning_rate=rate, weight_decay=decay)
            for run, (rate, decay) in zip(self.runs, pairs, strict=True)
        ]
        state = self.trainer.state
        self.trainer = self._trainer(self.runs)
        self.trainer.state = state

    def scale(self, factors: Sequence[float]) -> None:
        """Multiply all weights, and the velocities with them, by a factor a run."""
        state = self.trainer.state
        for own in (state.parameters, *state.slots.values()):
            for tensor in own.values():
                tensor.mul_(torch.tensor(factors, dtype=tensor.dtype).view(-1, *(1,) * (tensor.dim() - 1)))

    def skip(self, steps: int) -> None:
        """Train without recording."""
        self.trainer.advance(self.trainer.state.step + steps)

    def record(self, steps: int) -> NormTrace:
        """Train, and record every step; gradients are read back from the update itself."""
        rate = _column([run.learning_rate for run in self.runs])
        decay = _column([run.weight_decay for run in self.runs])
        momentum = self.runs[0].momentum
        found: list[list[Tensor]] = [[], [], [], []]
        weights, velocity = self._weights(), self._velocity()
        found[0].append(_squares(weights))
        for _ in range(steps):
            self.trainer.advance(self.trainer.state.step + 1)
            after, moved = self._weights(), self._velocity()
            if momentum:
                pairs = zip(moved, velocity, weights, strict=True)
                gradients = [new - momentum * old - decay.unsqueeze(1) * w for new, old, w in pairs]
            else:
                pairs2 = zip(weights, after, strict=True)
                gradients = [(w - new) / rate.unsqueeze(1) - decay.unsqueeze(1) * w for w, new in pairs2]
            found[0].append(_squares(after))
            found[1].append(_squares(gradients))
            found[2].append(torch.stack([(g * w).sum(1) for g, w in zip(gradients, weights, strict=True)], 1))
            found[3].append(torch.stack([rotation_angles(w, new) for w, new in zip(weights, after, strict=True)], 1))
            weights, velocity = after, moved
        return NormTrace(*(torch.stack(own).numpy() for own in found))

    def outputs(self, inputs: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Outputs [R, M, K] in training mode on the same inputs [M, …], of the runs or at other parameters [R, …]."""
        return self._outputs(inputs, self.trainer.state.parameters if parameters is None else parameters, {})

    def predictions(self, inputs: Tensor) -> Tensor:
        """Classes [R, M] in evaluation mode, with the running statistics of the normalizations."""
        state = self.trainer.state
        return self._outputs(inputs, state.parameters, state.buffers).argmax(2)

    def accuracies(self) -> Floats:
        """Of the training and of the test examples, [2, R]."""
        own = self._data
        parts = ((self.inputs, own.y_train), (own.x_test.double(), own.y_test))
        found = [(self.predictions(inputs) == labels).double().mean(1) for inputs, labels in parts]
        return torch.stack(found).numpy()

    @property
    def data(self) -> Dataset:
        """What is trained on."""
        return self._data

    @property
    def inputs(self) -> Tensor:
        """Of the training set, in float64."""
        return self._data.x_train.double()

    def _outputs(self, inputs: Tensor, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Tensor:
        """Outputs [R, M, K] with statistics of these inputs, or with the buffers [R, …] where there are any."""
        module = self._factory(self.runs[0].width, self._data.input_shape, self._data.num_classes).double()
        module.train(not buffers)
        together = {**parameters, **buffers}
        found = [
            torch.func.functional_call(module, {name: own[run] for name, own in together.items()}, (inputs,))
            for run in range(len(next(iter(parameters.values()))))
        ]
        return torch.stack(found).detach()

    def _trainer(self, runs: Sequence[Run]) -> PackTrainer:
        return PackTrainer(runs, self._data, self._factory, reference_width=2 * runs[0].width, kernel="vmap")

    def _weights(self) -> list[Tensor]:
        return [tensor.flatten(1).clone() for tensor in self.trainer.state.parameters.values()]

    def _velocity(self) -> list[Tensor]:
        return [tensor.flatten(1).clone() for tensor in self.trainer.state.slots["velocity"].values()]


def seeds_of(request: Request, count: dict[str, int]) -> list[int]:
    """The seeds of a request, so many as its scale has."""
    return list(range(request.first_seed, request.first_seed + count[request.scale]))


_SPEC: dict[str, Any] = {
    "name": "norms",
    "seeds": 1,
    "model": {"family": "mlp", "depth": 2, "normalization": "batch", "scale_invariant": True},
    "grid": {"parameterization": ["standard"], "width": [32], "batch_size": [32], "learning_rate": [0.1]},
    # A budget that no experiment comes to, and no evaluation on the way.
    "training": {"steps": 10**7, "evaluations": 2, "precision": "float64", "sampling": "with_replacement"},
    "stability": {"seeds": 0},
}


def _under_every_label(data: Dataset) -> Dataset:
    """Each training example once with every label."""
    labels = torch.arange(data.num_classes).repeat_interleave(len(data.x_train))
    return replace(data, x_train=data.x_train.repeat(data.num_classes, *[1] * len(data.input_shape)), y_train=labels)


def _changed(factory: Factory, epsilon: float, read_out: float) -> Factory:
    def build(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        module = factory(width, shape, classes)
        for part in module.modules():
            if hasattr(part, "eps"):
                part.eps = epsilon  # type: ignore[assignment]
            if isinstance(part, FixedReadOut):
                part.weight *= read_out
        return module

    return build


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _squares(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.square().sum(1) for tensor in tensors], 1)
