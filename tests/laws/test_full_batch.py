"""SGD on the whole training set: its gradient has no noise, so the learning rate orders the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.laws import fit, recommend

Make = Callable[..., Any]
SIZE = 4000  # training examples of the planted study


def without_noise(study: Any) -> pd.DataFrame:
    """Return the runs of a study as runs of the whole training set."""
    zeros = dict.fromkeys(("noise_scale", "normalized_noise_scale", "temperature"), 0.0)
    return study.runs().assign(batch_size=SIZE, **zeros)


@pytest.mark.parametrize("rates", [(0.5,), (0.25, 0.5, 1.0, 2.0)])
def test_the_best_trained_rate_is_recommended_with_the_reason(make_study: Make, rates: tuple[float, ...]) -> None:
    study = make_study(rates=rates, batches=(8,), widths=(32, 64, 128), seeds=3, stability=False)
    full = replace(study, table=without_noise(study))
    warnings = fit(full).warnings
    assert any("every batch is the whole training set, whose gradient has no noise" in text for text in warnings)
    assert not any("collapsed" in text or "was measured" in text for text in warnings)
    recommendation = recommend(full, 64)
    assert recommendation.batch_size == SIZE and recommendation.steps == 5000
    assert min(rates) <= recommendation.learning_rate.value <= max(rates)
    assert not recommendation.noise_scale.value > 0


def test_beside_other_batches_it_is_named(make_study: Make) -> None:
    study = make_study(rates=(0.5, 1.0, 2.0), batches=(8, 16), widths=(32, 64, 128), seeds=3, stability=False)
    alone = replace(study, table=study.runs()[lambda table: table.batch_size == 8])
    both = replace(study, table=pd.concat([study.runs(), without_noise(alone)], ignore_index=True))
    warnings = fit(both).warnings
    assert any(f"batch size {SIZE} is the whole training set" in text for text in warnings)
    assert not any("was measured" in text for text in warnings)
    with pytest.raises(BadInput, match="from 1 to 3999, because larger batches have no gradient noise"):
        recommend(both, 64, batch_size=SIZE)
