from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from noisescale.datasets.user_arrays import check_arrays
from noisescale.errors import BadInput

RNG = np.random.default_rng(0)
VECTORS, TEST_VECTORS = RNG.standard_normal((6, 3)), RNG.standard_normal((4, 3))
LABELS, TEST_LABELS = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 1, 3, 0])
USABLE = {"x_train": VECTORS, "y_train": LABELS, "x_test": TEST_VECTORS, "y_test": TEST_LABELS}


def test_classes_are_counted_over_training_and_test_labels() -> None:
    raw = check_arrays("own", **USABLE)
    assert raw.num_outputs == 4
    np.testing.assert_array_equal(raw.x_train, VECTORS)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
def test_labels_of_any_integer_dtype_become_int64(dtype: type) -> None:
    raw = check_arrays("own", VECTORS, LABELS.astype(dtype), TEST_VECTORS, TEST_LABELS)
    assert raw.y_train.dtype == np.int64
    np.testing.assert_array_equal(raw.y_train, LABELS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_tensors_are_accepted_like_arrays(dtype: torch.dtype) -> None:
    x_train = torch.tensor(VECTORS, dtype=dtype, requires_grad=True)
    raw = check_arrays("own", x_train, torch.tensor(LABELS), torch.tensor(TEST_VECTORS), torch.tensor(TEST_LABELS))
    np.testing.assert_allclose(raw.x_train, VECTORS, rtol=0.01)


def test_the_order_of_bytes_does_not_matter() -> None:
    swapped = [array.astype(array.dtype.newbyteorder(">")) for array in (VECTORS, LABELS, TEST_VECTORS, TEST_LABELS)]
    raw = check_arrays("own", *swapped)
    np.testing.assert_array_equal(raw.x_train, VECTORS)
    np.testing.assert_array_equal(raw.y_train, LABELS)
    assert raw.y_train.dtype.isnative


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_matrix_is_an_array() -> None:
    raw = check_arrays("own", np.asmatrix(VECTORS), LABELS, np.asmatrix(TEST_VECTORS), TEST_LABELS)
    assert type(raw.x_train) is np.ndarray
    np.testing.assert_array_equal(raw.x_train, VECTORS)


def test_masked_arrays_need_all_their_entries() -> None:
    whole = np.ma.masked_array(VECTORS)
    np.testing.assert_array_equal(check_arrays("own", whole, *list(USABLE.values())[1:]).x_train, VECTORS)
    labels = np.ma.masked_equal(LABELS, 2)
    for changed, message in (
        ({"x_train": np.ma.masked_less(VECTORS, 0.0)}, f"x_train: .*{(VECTORS < 0).sum()} masked of 18 entries"),
        ({"y_train": labels}, "y_train: .*2 masked of 6 entries"),
    ):
        with pytest.raises(BadInput, match=message):
            check_arrays("own", **{**USABLE, **changed})


def test_frames_and_series_are_taken() -> None:
    train = pd.DataFrame(VECTORS, columns=["a", "b", "c"]).astype({"b": np.float32})
    train["d"] = np.array([True, False, True, True, False, False])
    test = train.iloc[:4]
    raw = check_arrays("own", train, pd.Series(LABELS, dtype="Int64"), test, pd.Series(TEST_LABELS, dtype="category"))
    np.testing.assert_allclose(raw.x_train[:, :3], VECTORS, rtol=1e-6)
    np.testing.assert_array_equal(raw.x_train[:, 3], [1, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(raw.y_train, LABELS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": pd.DataFrame({"a": range(6), "b": list("uvwxyz"), "c": range(6)})}, "column 'b' of dtype"),
        ({"x_train": pd.DataFrame({"a": range(6), "b": [1.0, None, 3, 4, 5, 6], "c": range(6)})}, "1 NaN"),
        ({"y_train": pd.Series([0, 1, None, 0, 1, 2], dtype="Int64")}, "1 NaN|without missing entries"),
    ],
)
def test_frames_with_other_entries_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_arrays("own", **{**USABLE, **changed})


def frame(values: np.ndarray, columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(values, columns=columns)


@pytest.mark.parametrize(
    ("columns", "others", "message"),
    [
        (["a", "b", "c"], ["a", "c", "b"], "'c' at position 2, and 'b' in x_train"),
        (["a", "b", "c"], ["a", "b", "d"], "'d' at position 3, and 'c' in x_train"),
        (["a", "b", "c"], ["A", "b", "c"], "'A' at position 1, and 'a' in x_train"),
        ([("p", 0), ("p", 1), ("q", 0)], [("p", 0), ("q", 0), ("p", 1)], "position 2"),
        (["a", "b", "c"], ["a", "b"], "no column at position 3, and 'c' in x_train"),
    ],
)
def test_inputs_with_other_columns_are_refused(columns: list[Any], others: list[Any], message: str) -> None:
    inputs = {"x_train": frame(VECTORS, columns), "x_test": frame(TEST_VECTORS[:, : len(others)], others)}
    required = "own x_test: must have the columns of x_train in the same order"
    with pytest.raises(BadInput, match=f"{required}. Got: .*{message}"):
        check_arrays("own", **{**USABLE, **inputs})


@pytest.mark.parametrize(
    ("x_train", "x_test"),
    [
        (frame(VECTORS, ["a", "b", "c"]), frame(TEST_VECTORS, ["a", "b", "c"])),
        (frame(VECTORS, ["a", "b", "c"]), TEST_VECTORS),
        (VECTORS, frame(TEST_VECTORS, ["a", "b", "c"])),
        (frame(VECTORS, [0, 1, 2]), frame(TEST_VECTORS, ["0", "1", "2"])),
        (frame(VECTORS, [float("nan"), 1, 2]), frame(TEST_VECTORS, [float("nan"), 1, 2])),
    ],
)
def test_equal_columns_and_arrays_are_taken_by_position(x_train: Any, x_test: Any) -> None:
    raw = check_arrays("own", **{**USABLE, "x_train": x_train, "x_test": x_test})
    np.testing.assert_array_equal(raw.x_train, VECTORS)
    np.testing.assert_array_equal(raw.x_test, TEST_VECTORS)


def test_columns_of_targets_have_an_order_too() -> None:
    targets, test_targets = VECTORS[:, :2], TEST_VECTORS[:, :2]
    with pytest.raises(BadInput, match="own y_test: .*columns of y_train .*'b' at position 1, and 'a' in y_train"):
        check_arrays("own", VECTORS, frame(targets, ["a", "b"]), TEST_VECTORS, frame(test_targets, ["b", "a"]))
    raw = check_arrays("own", VECTORS, frame(targets[:, :1], ["a"]), TEST_VECTORS, frame(test_targets[:, :1], ["b"]))
    assert raw.num_outputs == 1


@pytest.mark.parametrize("key", ["y_train", "y_test"])
@pytest.mark.parametrize(
    ("kind", "largest", "message"),
    [
        (lambda labels: np.array(labels, dtype=np.uint64), 2**64 - 1, f"a largest label of {2**64 - 1}"),
        (lambda labels: np.array(labels, dtype=np.uint64), 2**63, f"a largest label of {2**63}"),
        (lambda labels: torch.tensor(labels, dtype=torch.uint64), 2**63, f"a largest label of {2**63}"),
        (pd.Series, 2**63, f"a largest label of {2**63}"),
        (lambda labels: np.array(labels, dtype=object), 2**70, "dtype object"),
        (pd.Series, 2**70, "dtype object"),
    ],
)
def test_labels_beyond_64_bits_are_refused_by_name(key: str, kind: Any, largest: int, message: str) -> None:
    labels = [*USABLE[key].tolist()[:-1], largest]
    with pytest.raises(BadInput, match=rf"^own {key}: .*Got: {message}"):
        check_arrays("own", **{**USABLE, key: kind(labels)})


@pytest.mark.parametrize("columns", [None, 1, 5])
def test_real_targets_become_columns_of_float32(columns: int | None) -> None:
    shape = () if columns is None else (columns,)
    raw = check_arrays("own", VECTORS, np.ones((6, *shape)), TEST_VECTORS, np.ones((4, *shape)))
    assert raw.y_train.dtype == np.float32
    assert raw.y_train.shape == (6, columns or 1)
    assert raw.num_outputs == (columns or 1)


def with_bad_entries(array: np.ndarray, *entries: float) -> np.ndarray:
    changed = array.copy()
    changed.flat[: len(entries)] = entries
    return changed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x_train", with_bad_entries(VECTORS, np.nan, np.inf, -np.inf), "1 NaN and 2 infinite of 18 entries"),
        ("x_test", torch.full((4, 3), torch.nan), "12 NaN and 0 infinite of 12 entries"),
        ("x_train", VECTORS.tolist(), "numpy array, a torch tensor, a DataFrame or a Series. Got: a list"),
        ("x_train", VECTORS.astype(complex), "real numbers. Got: dtype complex128"),
        ("x_train", VECTORS.astype(object), "real numbers. Got: dtype object"),
        ("x_train", torch.eye(6).to_sparse(), "dense tensor"),
        ("x_train", VECTORS[0], r"vectors \[N, D\], signals .* or images.*Got: shape \[3\]"),
        ("x_train", VECTORS[:, None, None, None], r"signals \[N, C, L\] or images.*Got: shape \[6, 1, 1, 1, 3\]"),
        ("x_train", VECTORS[:0], r"at least one example.*Got: shape \[0, 3\]"),
        ("x_test", TEST_VECTORS[:, :2], r"same shape as in x_train, \[3\]. Got: \[2\]"),
        ("y_train", LABELS[:5], "as long as its inputs, 6. Got: 5"),
        ("y_test", TEST_LABELS[:, None], r"integer labels of shape \[N\].*Got: int64 of shape \[4, 1\]"),
        ("y_train", np.zeros((6, 0)), r"real-valued targets.*Got: float64 of shape \[6, 0\]"),
        ("y_train", np.array(1.0), r"real-valued targets.*Got: float64 of shape \[\]"),
        ("y_train", LABELS - 1, "0 to K - 1, or -100 where .* Got: 2 negative labels, the smallest -1"),
        ("y_test", TEST_LABELS * 1000, "at most the number of examples, 10. Got: a largest label of 3000"),
        ("y_test", np.ones((4, 2)), "same kind as y_train, class labels. Got: real-valued targets of 2 columns"),
    ],
)
def test_unusable_arrays_are_refused_by_name(name: str, value: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        check_arrays("own", **{**USABLE, name: value})
    assert name in refused.value.name
    assert refused.value.name.startswith("own ")


def test_a_single_class_is_refused() -> None:
    with pytest.raises(BadInput, match="K at least 2"):
        check_arrays("own", VECTORS, LABELS * 0, TEST_VECTORS, TEST_LABELS * 0)


def test_targets_that_overflow_float32_are_refused() -> None:
    with pytest.raises(
        BadInput, match="own y_train: must contain only finite float32 numbers. Got: 0 NaN and 6 infinite"
    ):
        check_arrays("own", VECTORS, np.full(6, 1e300), TEST_VECTORS, np.ones(4))
