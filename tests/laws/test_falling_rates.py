"""SGD under a schedule that falls to the end: its optima are those of the rate at each batch size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from noisescale.laws import fit, recommend

Make = Callable[..., Any]


def test_sgd_whose_rate_falls_has_optima_at_each_batch_size(make_study: Make) -> None:
    # Equal steps, and twice the batch is better by two hundredths at every noise: training has not converged.
    study = make_study(
        rates=[2.0 ** (k / 2) for k in range(8)], batches=(8, 16), widths=(16, 32, 64), seeds=4, stability=False
    )
    table = study.runs().assign(schedule="cosine warmup=0.1", late_fraction=0.25)
    table.loc[table.batch_size == 16, "test_accuracy"] += 0.02
    spec = {**study.spec, "stability": {"price": False}}
    recommendation = recommend(replace(study, table=table, spec=spec), 64)
    assert recommendation.batch_size == 16 and recommendation.steps == 5000
    assert "rate falls" in recommendation.noise_scale.convention
    # A constant rate, or few rates at each batch size, keep the law of the noise.
    constant = fit(replace(study, table=table.assign(schedule="constant"), spec=spec))
    assert constant.groups[0].series[0].quantity == "normalized_noise_scale"
    few = table[table.learning_rate.isin(sorted(set(table.learning_rate))[:2])]
    assert fit(replace(study, table=few, spec=spec)).groups[0].series[0].quantity == "normalized_noise_scale"
