"""Training in plain PyTorch, as a user would write it, for settings that a study recommends and for guesses.

Inputs are standardized as a study does. Nothing else comes from the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

Optimizer = Callable[[nn.Module], torch.optim.Optimizer]


@dataclass(frozen=True)
class Data:
    """A data set as tensors.

    Args:
        x_train: Training inputs.
        y_train: Training targets.
        x_validation: Validation inputs, a tenth of the examples that are not for the test.
        y_validation: Validation targets.
        x_test: Test inputs.
        y_test: Test targets.
    """

    x_train: Tensor
    y_train: Tensor
    x_validation: Tensor
    y_validation: Tensor
    x_test: Tensor
    y_test: Tensor

    @classmethod
    def of(cls, arrays: tuple[np.ndarray, ...], seed: int) -> Data:
        """Split the training arrays at random and standardize all inputs.

        Args:
            arrays: Training inputs and targets, test inputs and targets.
            seed: Seed of the split.
        """
        x, y, x_test, y_test = arrays
        order = np.random.default_rng(seed).permutation(len(x))
        held, kept = order[: len(x) // 10], order[len(x) // 10 :]
        mean, deviation = x[kept].mean(), x[kept].std()

        def inputs(values: np.ndarray) -> Tensor:
            return torch.as_tensor((values - mean) / deviation, dtype=torch.float32)

        def targets(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=torch.float32 if values.dtype.kind == "f" else torch.int64)

        return cls(
            inputs(x[kept]), targets(y[kept]), inputs(x[held]), targets(y[held]), inputs(x_test), targets(y_test)
        )

    @property
    def is_regression(self) -> bool:
        """Return whether targets are real numbers."""
        return self.y_train.is_floating_point()


def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Return the accuracy, or R² for real targets; that of the constant predictor if outputs are not finite."""
    model.eval()
    with torch.no_grad():
        outputs = model(inputs)
    regression = targets.is_floating_point()
    if not bool(torch.isfinite(outputs).all()):
        return 0.0 if regression else 1 / outputs.shape[1]
    if regression:
        value = 1 - float(((outputs - targets) ** 2).mean() / targets.var(correction=0))
        return max(value, 0.0)
    return float((outputs.argmax(1) == targets).float().mean())


def train(
    build: Callable[[], tuple[nn.Module, torch.optim.Optimizer]], data: Data, batch_size: int, steps: int, seed: int
) -> tuple[float, float]:
    """Train a model, and return its score on the validation and the test examples.

    Args:
        build: Builds the model and its optimizer.
        data: The data.
        batch_size: Batch size B, in examples. The last partial batch of an epoch is left out.
        steps: Training steps.
        seed: Seed of the weights, of the batches and of dropout.
    """
    torch.manual_seed(seed)
    model, optimizer = build()
    model.train()
    loss = nn.functional.mse_loss if data.is_regression else nn.functional.cross_entropy
    generator = torch.Generator().manual_seed(seed)
    examples, step = len(data.x_train), 0
    # A study reports the mean over the last quarter of training. Here it is the mean over its last eighth.
    marks = {round(steps * (1 - share / 8)) for share in (0.25, 0.5, 0.75, 1.0)} - {0} | {steps}
    scores: list[tuple[float, float]] = []
    while step < steps:
        order = torch.randperm(examples, generator=generator)
        for start in range(0, examples - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            optimizer.zero_grad(set_to_none=True)
            value = loss(model(data.x_train[rows]), data.y_train[rows])
            value.backward()
            optimizer.step()
            step += 1
            if not math.isfinite(value.item()):
                return score_of_failure(model, data)
            if step in marks:
                scores.append(
                    (score(model, data.x_validation, data.y_validation), score(model, data.x_test, data.y_test))
                )
                model.train()
            if step >= steps:
                break
    validation, test = np.mean(scores, axis=0)
    return float(validation), float(test)


def score_of_failure(model: nn.Module, data: Data) -> tuple[float, float]:
    """Return the scores of a constant predictor."""
    if data.is_regression:
        return 0.0, 0.0
    share = float(torch.bincount(data.y_test).max() / len(data.y_test))
    return share, share
