from __future__ import annotations

import math
from typing import Any

import pytest

from noisescale.datasets import DatasetOptions
from noisescale.errors import BadInput


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_size", 0),
        ("train_size", -5),
        ("train_size", 10.0),
        ("train_size", True),
        ("test_size", 0),
        ("validation_fraction", -0.1),
        ("validation_fraction", 1.0),
        ("validation_fraction", math.nan),
        ("label_noise", 1.5),
        ("label_noise", "0.1"),
        ("data_seed", -1),
        ("data_seed", 0.5),
    ],
)
def test_an_option_out_of_range_is_refused_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(BadInput) as refused:
        DatasetOptions("digits", **{key: value})
    assert refused.value.name == f"dataset.{key}"
    assert repr(value) in str(refused.value)
