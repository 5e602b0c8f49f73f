"""The gradient noise scale inside anybody's training loop, on one device, by splitting the batch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, with_t_interval
from noisescale.measure.noise import fieller, ratio_error
from noisescale.measure.problem import LossFunction

# One measurement costs about one more pass through the batch, so one in a hundred steps costs about 1 %.
EVERY = 100

# Parts of a batch: with more of them one measurement is less noisy, but each must still fill the device.
PARTS = 4

# Measurements that the estimate looks back on, and the fewest from which it is given.
_WINDOW, _FEWEST = 32, 6


@dataclass(frozen=True)
class MonitoredNoise:
    """The noise now, from the last measurements.

    Args:
        trace_covariance: Tr Σ of the per-example gradient.
        gradient_norm_squared: |G|².
        gradient_noise_scale: Their ratio, in examples.
        step: Of the last measurement.
        measurements: That went in.
        status: advice.
    """

    trace_covariance: Estimate
    gradient_norm_squared: Estimate
    gradient_noise_scale: Estimate
    step: int
    measurements: int
    status: str

    def logged(self) -> dict[str, float]:
        """The noise scale and the ends of its interval, by the names under which a training loop logs them."""
        scale = self.gradient_noise_scale
        return {
            "gradient_noise_scale": scale.value,
            "gradient_noise_scale_low": scale.low,
            "gradient_noise_scale_high": scale.high,
        }


class NoiseMonitor:
    """Measures tr Σ, |G|² and their ratio every so many steps; model, buffers and generators stay as they are.

    A batch of B examples is split into m parts with gradients g_j; tr Σ = (B/m) Σ‖g_j − ḡ‖²/(m − 1) and
    |G|² = ‖ḡ‖² − tr Σ/B are unbiased. The parameters move between measurements, so the value now is the end of a
    parabola through the last of them (a line is too stiff where |G|² falls by half within them), and their noise is
    read from successive differences, which a slow drift does not enter.

    Args:
        model: In training; its gradients are left alone.
        loss: (outputs, targets) → their mean over the batch; `update_by` needs none.
        every: Steps between measurements.
        parts: m, at least 2; batches smaller than m are passed over.

    Raises:
        BadInput: Numbers out of range, or a model with no parameter that takes a gradient.

    Source:
        McCandlish, Kaplan, Amodei 2018, appendix A.1, for the two batch sizes; successive differences: von Neumann
        1941.
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
        self._found: deque[tuple[int, float, float]] = deque(maxlen=_WINDOW)
        self._not_finite = 0

    def update(self, inputs: Tensor, targets: Tensor) -> bool:
        """Count a step of training, and measure at every so many; call it once a step with the step's batch.

        Returns:
            Whether it was measured.
        """
        if (loss := self._loss) is None:
            raise BadInput("loss", "a loss of outputs and targets, for `update`", "none")
        return self.update_by(len(inputs), lambda part: loss(self._model(inputs[part]), targets[part]))

    def update_by(self, examples: int, loss_of: Callable[[slice], Tensor]) -> bool:
        """The same for a batch in any form.

        Args:
            examples: In the batch.
            loss_of: A slice of the batch → the mean loss over it, with its graph.
        """
        self._step += 1
        if self._step % self._every or examples < self._parts:
            return False
        size = examples // self._parts
        gradients = self._gradients(loss_of, size)
        mean = [torch.stack(own).mean(0) for own in zip(*gradients, strict=True)]
        spread = sum(
            float((one - centre).double().square().sum())
            for own in gradients
            for one, centre in zip(own, mean, strict=True)
        ) / (self._parts - 1)
        trace = size * spread
        square = sum(float(own.double().square().sum()) for own in mean)
        if math.isfinite(trace + square):
            self._found.append((self._step, trace, square - trace / (size * self._parts)))
            self._not_finite = 0
        else:
            self._not_finite += 1
        return True

    def estimate(self) -> MonitoredNoise | None:
        """The noise now; None before the sixth measurement."""
        n = len(self._found)
        if n < _FEWEST:
            return None
        rows = np.array(self._found)
        values, weights = rows[:, 1:], _weights_of_the_end(rows[:, 0])
        now = weights @ values
        differences = np.diff(values, axis=0)
        covariance = differences.T @ differences / (2 * (n - 1)) * float(weights @ weights)
        # Successive differences share their measurements: n of them are worth two thirds as many.
        freedom = 2 * (n - 1) / 3
        trace, norm = (with_t_interval(float(now[k]), math.sqrt(covariance[k, k]), freedom, "loss²") for k in range(2))
        low, high = fieller(trace.value, norm.value, covariance, freedom)
        value = trace.value / norm.value if norm.value > 0 else math.inf
        ratio = Estimate(value, low, high, "examples", standard_error=ratio_error(trace.value, norm.value, covariance))
        return MonitoredNoise(trace, norm, ratio, int(rows[-1, 0]), n, self._advice(trace, norm, ratio))

    def _advice(self, trace: Estimate, norm: Estimate, ratio: Estimate) -> str:
        if self._not_finite:
            return f"the last {self._not_finite} measurements were not finite: what is said is older"
        if not trace.standard_error:
            return "measurements do not vary: is it the same batch every time?"
        if norm.value <= 0 or math.isinf(ratio.high):
            return "|G|² is not told from 0: the noise scale has no upper bound; measure more often, or larger batches"
        return "ok"

    def _gradients(self, loss_of: Callable[[slice], Tensor], size: int) -> list[tuple[Tensor, ...]]:
        """The gradient of every part; what a pass changes (running statistics, generators) is put back."""
        model = self._model
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        devices = [parameters[0].device] if parameters[0].is_cuda else []
        found = []
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            for start in range(0, size * self._parts, size):
                loss = loss_of(slice(start, start + size))
                found.append(torch.autograd.grad(loss, parameters, materialize_grads=True))
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        return found


def _weights_of_the_end(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of measurements with which a least-squares parabola through them has its value at the last."""
    away = (steps - steps[-1]) / max(1.0, float(steps[-1] - steps[0]))
    design = np.stack([np.ones_like(away), away, away**2], axis=1)
    weights: NDArray[np.float64] = np.linalg.pinv(design)[0]
    return weights
