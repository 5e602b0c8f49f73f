"""Several labels of 0 and 1 for each example become rows of real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noisescale.datasets import DatasetOptions
from noisescale.datasets.user_arrays import check_arrays
from noisescale.errors import BadInput

X_TRAIN, X_TEST = np.random.default_rng(0).standard_normal((6, 3)), np.random.default_rng(1).standard_normal((4, 3))
Y_TRAIN, Y_TEST = np.eye(6, 5, dtype=np.int64), np.eye(4, 5, dtype=np.int64)
MULTI_LABEL = DatasetOptions("own:arrays", multi_label=True)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8, np.float64])
def test_rows_of_labels_become_real_numbers(dtype: type) -> None:
    raw = check_arrays("own", X_TRAIN, Y_TRAIN.astype(dtype), X_TEST, Y_TEST.astype(dtype), MULTI_LABEL)
    assert raw.y_train.dtype == np.float32
    assert raw.num_outputs == 5
    np.testing.assert_array_equal(raw.y_train, Y_TRAIN)


def test_a_single_label_is_a_column() -> None:
    raw = check_arrays("own", X_TRAIN, Y_TRAIN[:, 0], X_TEST, Y_TEST[:, 0], MULTI_LABEL)
    assert (raw.y_train.shape, raw.num_outputs) == ((6, 1), 1)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (Y_TRAIN * 2, r"own y_train: must be 0 or 1 .*Got: 5 other entries, such as 2"),
        (Y_TRAIN - 0.5, r"own y_train: must be 0 or 1 .*Got: 30 other entries, such as 0.5"),
        (Y_TRAIN[:5], r"own y_train: must be as long as its inputs, 6. Got: 5"),
        (Y_TRAIN[:, :, None], r"own y_train: must be 0 or 1 .*shape \[6, 5, 1\]"),
        (Y_TRAIN[:, :4], r"own y_test: must be of the same kind .*4 columns. Got: .*5 columns"),
    ],
)
def test_other_targets_are_refused(targets: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_arrays("own", X_TRAIN, targets, X_TEST, Y_TEST, MULTI_LABEL)


def test_rows_of_labels_without_the_key_are_refused_with_its_name() -> None:
    with pytest.raises(BadInput, match=r"own y_train: .*for several labels of 0 and 1 set dataset.multi_label"):
        check_arrays("own", X_TRAIN, Y_TRAIN, X_TEST, Y_TEST)
