"""Problems on which recommendations are compared with guesses and with random search, as a user would bring them.

Each problem has a data function and a model function, with no line that knows the package. The random seed of the data
is read from the environment variable `PROBLEM_SEED`, so that every fresh seed draws the data again.
"""

from __future__ import annotations

import math
import os

import numpy as np
from sklearn.datasets import load_digits, make_classification, make_friedman1
from torch import nn

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

TRAIN, TEST = 2000, 4000


def _seed() -> int:
    return int(os.environ.get("PROBLEM_SEED", "0"))


def friedman() -> Arrays:
    """Return tabular regression: 20 columns, of which five matter, with noise of deviation 1."""
    inputs, targets = make_friedman1(n_samples=TRAIN + TEST, n_features=20, noise=1.0, random_state=_seed())
    targets = targets[:, None]
    return inputs[:TRAIN], targets[:TRAIN], inputs[TRAIN:], targets[TRAIN:]


def friedman_model(width: int, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Two hidden layers with batch normalization and dropout."""
    fan_in = math.prod(input_shape)
    return nn.Sequential(
        nn.Linear(fan_in, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(width, outputs),
    )  # fmt: skip


def digits() -> Arrays:
    """Return handwritten digits, split at random."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(_seed()).permutation(len(labels))
    train, test = order[:1200], order[1200:]
    return images[train], labels[train], images[test], labels[test]


def digits_model(width: int, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Three tanh layers."""
    fan_in = math.prod(input_shape)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(fan_in, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width),
        nn.Tanh(), nn.Linear(width, outputs),
    )  # fmt: skip


def signals() -> Arrays:
    """Return MNIST-1D with 20 % of the training labels drawn again."""
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.seed, arguments.num_samples = _seed(), 8000
    data = make_dataset(arguments)
    generator = np.random.default_rng(_seed())
    labels = data["y"].copy()
    redrawn = generator.random(len(labels)) < 0.2
    labels[redrawn] = generator.integers(0, 10, int(redrawn.sum()))
    return data["x"], labels, data["x_test"], data["y_test"]


def signals_model(width: int, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Two ReLU layers."""
    fan_in = math.prod(input_shape)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(fan_in, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


def clusters() -> Arrays:
    """Return tabular classification: 20 columns, ten of them informative, five classes, 5 % of the labels flipped."""
    inputs, labels = make_classification(
        n_samples=4000 + TEST, n_features=20, n_informative=10, n_classes=5, flip_y=0.05, random_state=_seed()
    )
    return inputs[:4000], labels[:4000], inputs[4000:], labels[4000:]


def clusters_model(width: int, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Two hidden layers with layer normalization."""
    fan_in = math.prod(input_shape)
    return nn.Sequential(
        nn.Linear(fan_in, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width), nn.LayerNorm(width),
        nn.ReLU(), nn.Linear(width, outputs),
    )  # fmt: skip
