"""A synthetic language whose entropy per token is known exactly: a Markov chain of order k over V tokens.

The next token depends on the k tokens before it. For each of the V^k states, the distribution of the next token is
drawn once, by `data_seed`: 0.95 times a draw from the Dirichlet distribution with concentration 0.1, plus 0.05 times
the uniform distribution. Few tokens follow often on a state, and each can follow.

Every example is an independent window of T + 1 tokens that starts from the exact stationary distribution π of the
chain: the first T tokens are its inputs, the last T its targets. At the first positions of a window a model sees fewer
than k tokens. With the entropy H(m) of m tokens in a row, the smallest mean loss over the T positions of a window is

    (Σ_{m = 1 … T} h(m)) / T,    h(m) = H(m + 1) − H(m) for m < k,    h(m) = Σ_s π(s) H(p(· | s)) for m ≥ k.

A smaller set of examples is the beginning of a larger one. The training and the test examples are independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from noisescale.datasets.dataset import Array, DatasetOptions, RawArrays
from noisescale.datasets.random_choices import random_stream
from noisescale.errors import BadInput

DEFAULT_VOCABULARY, DEFAULT_ORDER, DEFAULT_CONTEXT = 16, 2, 64
DEFAULT_TRAIN, DEFAULT_TEST = 4096, 1024
CONCENTRATION, UNIFORM_SHARE = 0.1, 0.05
# Largest number V^(k + 1) of entries of the table of probabilities.
MOST_ENTRIES = 2**22

# Number of windows that are drawn together, from one random stream.
_BLOCK = 4096
# A step of the iteration for π that moves less probability than this is hardly more than a rounding error.
_CONVERGED, _MOST_ITERATIONS = 1e-13, 10_000


@dataclass(frozen=True, eq=False)
class Language:
    """A Markov chain of order k over V tokens.

    Args:
        table: Probability of the next token after k tokens, float64 of shape [V, …, V, V]: the k tokens in their order,
            then the next one.
        stationary: Stationary probability π of k tokens in a row, float64 of shape [V, …, V].
    """

    table: Array
    stationary: Array

    @property
    def order(self) -> int:
        """The number k of tokens on which the next one depends."""
        return self.stationary.ndim

    @property
    def vocabulary(self) -> int:
        """The number V of kinds of tokens."""
        return len(self.table)

    def marginal(self, length: int) -> Array:
        """Return the probability of up to k tokens in a row, shape [V, …, V].

        Args:
            length: Number of tokens, 1 to k.
        """
        marginal: Array = self.stationary.sum(axis=tuple(range(length, self.order)))
        return marginal

    def entropies(self, context: int) -> list[float]:
        """Return the smallest mean loss at each position of a window, in nats.

        Args:
            context: T, the number of positions.
        """
        blocks = [float(entr(self.marginal(length)).sum()) for length in range(1, self.order + 1)]
        first = [longer - shorter for shorter, longer in zip(blocks, blocks[1:], strict=False)]
        rate = float((self.stationary * entr(self.table).sum(axis=-1)).sum())
        return [*first[:context], *[rate] * (context - len(first))]

    def windows(self, examples: int, length: int, data_seed: int, part: str) -> Array:
        """Draw independent windows, int64 of shape [examples, length].

        Args:
            examples: Number of windows.
            length: Number of tokens of a window.
            data_seed: The seed of the data.
            part: Name of the set of examples. Sets with different names are independent.
        """
        # The thresholds of all states lie one after another, from s to s + 1 for state s, so that one search finds all
        # tokens of a position.
        thresholds = self.table.reshape(-1, self.vocabulary).cumsum(axis=1)
        thresholds[:, -1] = 1.0
        thresholds += np.arange(len(thresholds))[:, None]
        blocks = [
            self._block(length, thresholds.ravel(), random_stream(data_seed, f"language {part} {block}"))
            for block in range(math.ceil(examples / _BLOCK))
        ]
        return np.concatenate(blocks)[:examples]

    def _block(self, length: int, thresholds: Array, rng: np.random.Generator) -> Array:
        states, vocabulary = self.stationary.size, self.vocabulary
        state = rng.choice(states, size=_BLOCK, p=self.stationary.ravel() / self.stationary.sum())
        tokens = np.empty((_BLOCK, max(length, self.order)), dtype=np.int64)
        tokens[:, : self.order] = np.stack(np.unravel_index(state, self.stationary.shape), axis=1)
        for position in range(self.order, length):
            place = np.searchsorted(thresholds, state + rng.random(_BLOCK), side="right")
            # A number next to 1 may be rounded to it.
            tokens[:, position] = np.minimum(place - state * vocabulary, vocabulary - 1)
            state = (state * vocabulary + tokens[:, position]) % states
        return tokens[:, :length]


def draw_language(vocabulary: int, order: int, data_seed: int) -> Language:
    """Draw the table of a language and compute its stationary distribution.

    Args:
        vocabulary: V, the number of kinds of tokens, at least 2.
        order: k, the number of tokens on which the next one depends.
        data_seed: The seed of the data.
    """
    rng = random_stream(data_seed, f"language table {vocabulary} {order}")
    drawn = rng.dirichlet(np.full(vocabulary, CONCENTRATION), size=vocabulary**order)
    table = ((1 - UNIFORM_SHARE) * drawn + UNIFORM_SHARE / vocabulary).reshape([vocabulary] * (order + 1))
    return Language(table, stationary_distribution(table))


def stationary_distribution(table: Array) -> Array:
    """Return the stationary probability of k tokens in a row, shape [V, …, V].

    Args:
        table: Probability of the next token, shape [V, …, V, V]. All entries are above 0, so there is one solution.
    """
    stationary = np.full(table.shape[:-1], 1.0 / table[..., 0].size)
    for _ in range(_MOST_ITERATIONS):
        moved = (stationary[..., None] * table).sum(axis=0)
        moved /= moved.sum()
        change, stationary = float(np.abs(moved - stationary).sum()), moved
        if change < _CONVERGED:
            break
    return stationary


def load_language(options: DatasetOptions) -> RawArrays:
    """Return windows of the language, tokens [N, T] and the next tokens [N, T].

    Args:
        options: `vocabulary` V (16 if not given), `order` k (2), `context` T (64), `train_size` (4,096), `test_size`
            (1,024) and the seed.

    Raises:
        BadInput: There are fewer than two tokens, or the table would be too large.
    """
    vocabulary, order = options.vocabulary or DEFAULT_VOCABULARY, options.order or DEFAULT_ORDER
    if vocabulary < 2:
        raise BadInput("dataset.vocabulary", "at least 2 tokens, for dataset.name = 'language'", vocabulary)
    if (order + 1) * math.log2(vocabulary) > math.log2(MOST_ENTRIES) + 1e-9:
        required = f"so small that the table has at most {MOST_ENTRIES:,} entries, dataset.vocabulary^(order + 1)"
        raise BadInput("dataset.order", required, f"order {order} with {vocabulary} tokens")
    context, language = options.context or DEFAULT_CONTEXT, draw_language(vocabulary, order, options.data_seed)
    sizes = {"train": options.train_size or DEFAULT_TRAIN, "test": options.test_size or DEFAULT_TEST}
    train, test = (language.windows(size, context + 1, options.data_seed, part) for part, size in sizes.items())
    entropy = math.fsum(language.entropies(context)) / context
    return RawArrays(
        x_train=train[:, :-1],
        y_train=train[:, 1:],
        x_test=test[:, :-1],
        y_test=test[:, 1:],
        num_outputs=vocabulary,
        vocabulary=vocabulary,
        consecutive=True,
        entropy=entropy,
        notes=(f"no model has a mean cross-entropy below {entropy:.6g} nats per token, the entropy of this language",),
    )
