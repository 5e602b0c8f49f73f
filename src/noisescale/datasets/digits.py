"""Handwritten digits of scikit-learn: 1,797 images of 8 by 8 grey pixels in 10 classes; for testing machinery.

Source: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI, 1998 (its test set).
"""

from __future__ import annotations

import numpy as np

from noisescale.datasets.dataset import DatasetOptions, RawArrays
from noisescale.datasets.random_choices import random_stream

# A fifth of the examples: scikit-learn's copy has no split of its own.
TEST_EXAMPLES = 360


def load_digits(options: DatasetOptions) -> RawArrays:
    """Return 1,437 training and 360 test images [N, 1, 8, 8] of 0 to 16, split by `options.data_seed`."""
    # Imported here: it takes a second that no other data set needs.
    from sklearn.datasets import load_digits as load_sklearn_digits

    bunch = load_sklearn_digits()
    images = bunch.images[:, None].astype(np.uint8)
    order = random_stream(options.data_seed, "digits test split").permutation(len(images))
    test, train = order[:TEST_EXAMPLES], order[TEST_EXAMPLES:]
    return RawArrays(images[train], bunch.target[train], images[test], bunch.target[test], num_outputs=10)
