"""The gradient noise scale in any training loop on one device, measured by splitting a batch."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from noisescale.errors import BadInput, one_line
from noisescale.estimate import Estimate, with_t_interval
from noisescale.measure.noise import fieller, ratio_error
from noisescale.measure.preserved_state import preserved_state
from noisescale.measure.problem import LossFunction
from noisescale.seeding import preserved_generators
from noisescale.user_code import preserved_process

# Steps between measurements. A measurement takes about as long as a step, so this adds about 1 % to the training time.
EVERY = 100

# Number of parts of a batch. More parts make a measurement less noisy, but small parts do not keep the device busy.
PARTS = 4

# Number of latest measurements from which the noise is estimated, and the smallest number that is enough.
_WINDOW, _MIN_MEASUREMENTS = 32, 6
# Kinds of skipped batches that are named. Further ones are skipped without a word.
_MOST_WARNINGS = 5


@dataclass(frozen=True)
class MonitoredNoise:
    """The current gradient noise, estimated from the last measurements.

    Args:
        trace_covariance: Trace of the covariance Σ of per-example gradients, tr Σ.
        gradient_norm_squared: Squared norm |G|² of the mean gradient.
        gradient_noise_scale: The ratio tr Σ/|G|², in examples.
        step: Step of the last measurement.
        measurements: Number of measurements used.
        status: "ok", or a sentence that says what to change.
    """

    trace_covariance: Estimate
    gradient_norm_squared: Estimate
    gradient_noise_scale: Estimate
    step: int
    measurements: int
    status: str

    def logged(self) -> dict[str, float]:
        """Return the noise scale and the ends of its interval, by the names used in logs."""
        scale = self.gradient_noise_scale
        return {
            "gradient_noise_scale": scale.value,
            "gradient_noise_scale_low": scale.low,
            "gradient_noise_scale_high": scale.high,
        }


class NoiseMonitor:
    """Measures tr Σ, |G|² and their ratio at regular steps. It changes neither the model nor any generator.

    What a pass changes in the model or the loss is restored: parameters, buffers, and objects of the user's classes.
    Not restored are attributes of classes, globals, and objects that hold threads, locks or queues.

    A batch that cannot be measured is skipped, with a warning at the first such batch. Training goes on as without the
    monitor.

    A batch of B examples is split into m parts with gradients g_j. Then tr Σ = (B/m) Σ‖g_j − ḡ‖²/(m − 1) and
    |G|² = ‖ḡ‖² − tr Σ/B are unbiased. Parameters move between measurements. The current value is therefore the end of
    a least-squares parabola through the last measurements. (A line fits badly if |G|² halves within these
    measurements.) The noise of a measurement is estimated from successive differences, which a slow drift does not
    affect.

    Args:
        model: The model in training. Its `grad` fields are not changed.
        loss: Loss of outputs and targets, averaged over the batch. Not needed for `update_by`.
        every: Number of steps between measurements.
        parts: Number m of parts, at least 2. Batches of fewer than m examples are skipped.

    Raises:
        BadInput: A number is out of range, or no parameter of the model takes a gradient.

    Source:
        McCandlish, Kaplan, Amodei 2018, appendix A.1, for the two batch sizes; von Neumann 1941, for successive
        differences.
    """

    def __init__(
        self, model: nn.Module, loss: LossFunction | None = None, *, every: int = EVERY, parts: int = PARTS
    ) -> None:
        if every < 1:
            raise BadInput("every", "a whole number of at least 1", every)
        if parts < 2:
            raise BadInput("parts", "a whole number of at least 2", parts)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise BadInput("model", "at least one parameter that takes a gradient", "none")
        self._model, self._loss, self._every, self._parts = model, loss, every, parts
        self._step = 0
        # Step, tr Σ and |G|² of the last measurements.
        self._measurements: deque[tuple[int, float, float]] = deque(maxlen=_WINDOW)
        self._not_finite = 0
        self._warned: set[str] = set()

    def update(self, inputs: Tensor | Mapping[str, Tensor], targets: Tensor) -> bool:
        """Count a training step, and measure if it is due. Call it once for each step, with the batch of the step.

        Args:
            inputs: Inputs of the batch, shape [B, …], or a dictionary of them.
            targets: Targets of the batch, shape [B, …].

        Returns:
            Whether this step was measured.

        Raises:
            BadInput: The monitor has no loss.
        """
        if (loss := self._loss) is None:
            raise BadInput("loss", "a loss of outputs and targets, for `update`", "none")
        by_name = dict(inputs) if isinstance(inputs, Mapping) else {"": inputs}
        tensors = [*by_name.values(), targets]
        if not (by_name and all(isinstance(tensor, Tensor) and tensor.dim() for tensor in tensors)):
            self._step += 1
            kinds = f"{type(inputs).__name__} and {type(targets).__name__}"
            self._skip(f"inputs and targets that are not batches of tensors ({kinds}); `update_by` takes any batch")
            return False

        def loss_of(part: slice) -> Tensor:
            # Copies, because a model or a loss may change what it is given.
            copies = {name: tensor[part].clone() for name, tensor in by_name.items()}
            outputs = self._model(copies if isinstance(inputs, Mapping) else copies[""])
            return loss(outputs, targets[part].clone())

        return self.update_by(len(targets), loss_of)

    def update_by(self, examples: int, loss_of: Callable[[slice], Tensor]) -> bool:
        """Count a training step, and measure if it is due, for a batch of any form.

        Args:
            examples: Number of examples in the batch.
            loss_of: A function that computes the mean loss over a slice of the batch, with its autograd graph.

        Returns:
            Whether this step was measured.
        """
        self._step += 1
        if self._step % self._every:
            return False
        if examples < self._parts:
            self._skip(f"a batch of {examples} examples, which is fewer than the {self._parts} parts")
            return False
        if any(is_lazy(parameter) for parameter in self._model.parameters()):
            # A pass gives them a shape and entries for good.
            self._skip("batches before the first pass of a model with lazy layers")
            return False
        size = examples // self._parts
        try:
            gradients = self._gradients(loss_of, size)
        except Exception as error:  # the user's model and loss may raise anything, which must not end the training
            self._skip(f"a batch of {examples} examples in {self._parts} parts: {one_line(error)}")
            return False
        mean = [torch.stack(parts_of_parameter).mean(0) for parts_of_parameter in zip(*gradients, strict=True)]
        spread = sum(
            float((gradient - center).double().square().sum())
            for part_gradients in gradients
            for gradient, center in zip(part_gradients, mean, strict=True)
        ) / (self._parts - 1)
        trace = size * spread
        square = sum(float(gradient.double().square().sum()) for gradient in mean)
        if math.isfinite(trace + square):
            self._measurements.append((self._step, trace, square - trace / (size * self._parts)))
            self._not_finite = 0
        else:
            self._not_finite += 1
        return True

    def estimate(self) -> MonitoredNoise | None:
        """Return the current noise, or None before the sixth measurement."""
        n = len(self._measurements)
        if n < _MIN_MEASUREMENTS:
            return None
        rows = np.array(self._measurements)
        values, weights = rows[:, 1:], _weights_of_the_end(rows[:, 0])
        current = weights @ values
        differences = np.diff(values, axis=0)
        covariance = differences.T @ differences / (2 * (n - 1)) * float(weights @ weights)
        # Neighboring differences share a measurement, so n − 1 differences count as 2(n − 1)/3 independent differences.
        freedom = 2 * (n - 1) / 3
        trace, norm = (
            with_t_interval(float(current[k]), math.sqrt(covariance[k, k]), freedom, "loss²") for k in range(2)
        )
        low, high = fieller(trace.value, norm.value, covariance, freedom)
        value = trace.value / norm.value if norm.value > 0 else math.inf
        ratio = Estimate(value, low, high, "examples", standard_error=ratio_error(trace.value, norm.value, covariance))
        return MonitoredNoise(trace, norm, ratio, int(rows[-1, 0]), n, self._advice(trace, norm, ratio))

    def _advice(self, trace: Estimate, norm: Estimate, ratio: Estimate) -> str:
        if self._not_finite:
            return f"the last {self._not_finite} measurements were not finite, so these values are older"
        if not trace.standard_error:
            return "all measurements are equal: is every batch the same?"
        if norm.value <= 0 or math.isinf(ratio.high):
            often = f"measure more often than every {self._every} steps, or " if self._every > 1 else ""
            return f"|G|² may be 0, so the noise scale has no upper bound: {often}train with larger batches"
        return "ok"

    def _skip(self, what: str) -> None:
        """Warn that a batch is not measured, the first time for each kind of batch."""
        if what not in self._warned and len(self._warned) < _MOST_WARNINGS:
            self._warned.add(what)
            warnings.warn(f"the noise monitor skips {what}", stacklevel=4)

    def _gradients(self, loss_of: Callable[[slice], Tensor], size: int) -> list[tuple[Tensor, ...]]:
        """Compute the gradient of each part. Restore the model, the loss and random generators afterwards."""
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        devices = [parameters[0].device] if parameters[0].is_cuda else []
        gradients = []
        with (
            torch.random.fork_rng(devices=devices),
            preserved_process(),
            preserved_generators(),
            preserved_state(self._model, self._loss) as restore,
            torch.enable_grad(),
        ):
            for start in range(0, size * self._parts, size):
                loss = loss_of(slice(start, start + size))
                computed = torch.autograd.grad(loss, parameters, materialize_grads=True)
                gradients.append(tuple(gradient.to_dense() for gradient in computed))
                restore()
        return gradients


def _weights_of_the_end(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights that give the value of a least-squares parabola at the last measurement."""
    time = (steps - steps[-1]) / max(1.0, float(steps[-1] - steps[0]))
    design = np.stack([np.ones_like(time), time, time**2], axis=1)
    weights: NDArray[np.float64] = np.linalg.pinv(design)[0]
    return weights
