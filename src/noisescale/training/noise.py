"""The noise scale of SGD, in the conventions of the papers, and its inverse."""

from __future__ import annotations


def noise_scale(learning_rate: float, batch_size: int, train_size: int, momentum: float, sampling: str) -> float:
    """g = ε(N/B − 1)/(1 − m) for sampling without replacement, εN/(B(1 − m)) with replacement.

    Arguments:
        learning_rate: ε. batch_size: B, train_size: N, in examples. momentum: m.
    Source:
        Smith, Le 2018; Park, Sohl-Dickstein, Le, Smith 2019, section 2.
    """
    return learning_rate * _examples_ratio(batch_size, train_size, sampling) / (1 - momentum)


def learning_rate_for_noise(noise: float, batch_size: int, train_size: int, momentum: float, sampling: str) -> float:
    """ε that gives the noise scale `noise` at this batch: the inverse of `noise_scale`."""
    return noise * (1 - momentum) / _examples_ratio(batch_size, train_size, sampling)


def _examples_ratio(batch_size: int, train_size: int, sampling: str) -> float:
    return train_size / batch_size - (0.0 if sampling == "with_replacement" else 1.0)
