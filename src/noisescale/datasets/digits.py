"""Handwritten digits of scikit-learn: 1,797 images of 8 by 8 gray pixels in 10 classes, for quick tests.

Source: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI, 1998 (the test set).
"""

from __future__ import annotations

import numpy as np

from noisescale.datasets.dataset import DatasetOptions, RawArrays
from noisescale.datasets.random_choices import random_stream

# A fifth of the examples, because scikit-learn does not split them into training and test examples.
TEST_EXAMPLES = 360


def load_digits(options: DatasetOptions) -> RawArrays:
    """Return 1,437 training and 360 test images [N, 1, 8, 8] with values 0 to 16, split by `options.data_seed`."""
    # Imported here, because the import takes a second and no other data set needs it.
    from sklearn.datasets import load_digits as load_sklearn_digits

    bunch = load_sklearn_digits()
    images = bunch.images[:, None].astype(np.uint8)
    order = random_stream(options.data_seed, "digits test split").permutation(len(images))
    test, train = order[:TEST_EXAMPLES], order[TEST_EXAMPLES:]
    return RawArrays(images[train], bunch.target[train], images[test], bunch.target[test], num_outputs=10)
