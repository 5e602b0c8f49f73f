"""The synthetic language: its entropy against sums over all sequences, and against a predictor that knows the table.

Sums over all sequences agree to rounding errors, 1e-9. The mean loss of the predictor on N independent windows has a
standard error, which is estimated from the windows; the tests allow four of them, at a fixed seed.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from noisescale.datasets import DatasetOptions, load_dataset
from noisescale.datasets.language import draw_language
from noisescale.errors import BadInput
from noisescale.input_shapes import vocabulary_of


def probability(table: np.ndarray, stationary: np.ndarray, sequence: tuple[int, ...]) -> float:
    """Return the probability of a sequence of at least k tokens."""
    order = stationary.ndim
    total = stationary[sequence[:order]]
    for end in range(order, len(sequence)):
        total *= table[sequence[end - order : end + 1]]
    return float(total)


@pytest.mark.parametrize(("vocabulary", "order"), [(2, 1), (3, 1), (2, 2), (3, 2), (2, 3)])
@pytest.mark.parametrize("context", [1, 2, 4])
def test_the_entropy_is_that_of_all_sequences(vocabulary: int, order: int, context: int) -> None:
    language = draw_language(vocabulary, order, data_seed=5)
    length = max(context + 1, order)
    blocks = np.zeros([vocabulary] * length)
    for sequence in product(range(vocabulary), repeat=length):
        blocks[sequence] = probability(language.table, language.stationary, sequence)
    assert blocks.sum() == pytest.approx(1.0, abs=1e-12)

    def entropy(tokens: int) -> float:
        joint = blocks.sum(axis=tuple(range(tokens, length)))
        return float(-(joint * np.log(joint)).sum())

    expected = [entropy(seen + 1) - entropy(seen) for seen in range(1, context + 1)]
    assert language.entropies(context) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("vocabulary", "order"), [(2, 1), (16, 2), (3, 4)])
def test_the_stationary_distribution_does_not_move(vocabulary: int, order: int) -> None:
    language = draw_language(vocabulary, order, data_seed=0)
    moved = np.zeros_like(language.stationary)
    for sequence in product(range(vocabulary), repeat=order + 1):
        moved[sequence[1:]] += language.stationary[sequence[:-1]] * language.table[sequence]
    np.testing.assert_allclose(moved, language.stationary, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_predictor_that_knows_the_table_reaches_the_entropy(order: int) -> None:
    options = DatasetOptions("language", vocabulary=5, order=order, context=6, train_size=20_000, test_size=1)
    dataset, language = load_dataset(options), draw_language(5, order, data_seed=0)
    sequences = torch.cat([dataset.x_train, dataset.y_train[:, -1:]], dim=1).numpy()
    losses = np.zeros((20_000, 6))
    for position in range(6):
        end = position + 1
        if end >= order:
            predicted = language.table[tuple(sequences[:, end - order : end].T)]
        else:
            joint = language.marginal(end + 1)
            predicted = (joint / joint.sum(axis=-1, keepdims=True))[tuple(sequences[:, :end].T)]
        losses[:, position] = -np.log(predicted[np.arange(20_000), sequences[:, end]])
    for position, entropy in enumerate(language.entropies(6)):
        error = losses[:, position].std() / np.sqrt(20_000)
        assert abs(losses[:, position].mean() - entropy) < 4 * error
    means = losses.mean(axis=1)
    assert dataset.entropy is not None
    assert abs(means.mean() - dataset.entropy) < 4 * means.std() / np.sqrt(20_000)
    # The language is worth learning: the entropy is well below that of guessing.
    assert dataset.entropy < 0.8 * np.log(5)


def test_shapes_and_parts() -> None:
    options = DatasetOptions("language", context=8, train_size=5000, test_size=30, validation_fraction=0.1)
    dataset = load_dataset(options)
    assert dataset.input_shape == (8,)
    assert vocabulary_of(dataset.input_shape) == dataset.num_classes == 16
    assert [len(part) for part in (dataset.x_train, dataset.x_validation, dataset.x_test)] == [4500, 500, 30]
    assert dataset.x_train.dtype == dataset.y_test.dtype == torch.int64
    assert torch.equal(dataset.x_train[:, 1:], dataset.y_train[:, :-1])
    larger = load_dataset(DatasetOptions("language", context=8, train_size=9000, test_size=30))
    assert torch.equal(larger.x_train[:4500], dataset.x_train)
    assert torch.equal(larger.x_train[4500:5000], dataset.x_validation)
    assert not torch.equal(larger.x_train[:30], dataset.x_test)
    assert len({load_dataset(DatasetOptions("language", data_seed=seed, train_size=9)).hash for seed in (0, 0, 1)}) == 2


def test_a_window_may_be_shorter_than_the_order() -> None:
    dataset = load_dataset(DatasetOptions("language", vocabulary=3, order=4, context=2, train_size=10, test_size=5))
    assert dataset.x_train.shape == dataset.y_train.shape == (10, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": 1}, r"dataset\.vocabulary: at least 2 tokens.*Got: 1"),
        ({"order": 6}, r"dataset\.order: .*at most 4,194,304 entries.*Got: order 6 with 16 tokens"),
        ({"standardize": True}, r"dataset\.standardize: false or not given, for tokens. Got: True"),
        ({"label_noise": 0.1}, r"dataset\.label_noise: must be 0 .*labels of tokens"),
        ({"path": "text.txt"}, r"dataset\.path: not given: only for text. Got: 'text.txt'"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_dataset(DatasetOptions("language", **options))  # type: ignore[arg-type]
