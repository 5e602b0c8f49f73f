from __future__ import annotations

import math

import numpy as np
import pytest

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, from_log
from noisescale.laws.edge_by_batch import EdgeByBatch
from noisescale.laws.largest_batch import largest_batch
from noisescale.noise_laws import SGD_NOISE

N = 4000
FLAT = EdgeByBatch((1.0, 64.0), (math.log(2), math.log(2)), (math.log(2),) * 2, (math.log(2),) * 2)
EDGE = EdgeByBatch(
    (1.0, 4.0, 16.0), tuple(np.log([1.0, 2, 3])), tuple(np.log([0.8, 1.8, 2.6])), tuple(np.log([1.2, 2.4, 3.3]))
)


def noise(value: float, half_width: float = 0.0) -> Estimate:
    return from_log(math.log(value), math.log(value) - half_width, math.log(value) + half_width, "examples", "g")


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_constant_edge_is_solved_in_closed_form(replacement: bool, momentum: float) -> None:
    g = 2.0 * SGD_NOISE.per_rate("noise_scale", 20.0, N, momentum, replacement=replacement)
    result = largest_batch(noise(g), FLAT, train_size=N, momentum=momentum, replacement=replacement)
    assert result.label == "solved"
    assert result.batch_size.value == pytest.approx(20, rel=1e-3)
    assert SGD_NOISE.batch_size("noise_scale", g, 2.0, N, momentum, replacement=replacement) == pytest.approx(20)


def test_the_edge_at_the_solution_is_used() -> None:
    g = math.sqrt(2 * 3) * (N / 8 - 1)  # log-log midway between batch sizes 4 and 16
    result = largest_batch(noise(g), EDGE, train_size=N)
    assert result.batch_size.value == pytest.approx(8, rel=1e-3)


def test_errors_of_the_noise_and_of_the_edge_widen_the_interval() -> None:
    g = 2 * (N / 4 - 1)
    exact = largest_batch(noise(g), FLAT, train_size=N).batch_size
    with_noise = largest_batch(noise(g, 0.3), FLAT, train_size=N).batch_size
    with_both = largest_batch(noise(g, 0.3), EDGE, train_size=N).batch_size
    assert exact.high / exact.low == pytest.approx(1, abs=1e-3)
    assert with_noise.high / with_noise.low == pytest.approx(math.exp(0.6), rel=0.01)
    assert with_both.high / with_both.low > with_noise.high / with_noise.low


def test_infinite_ends_stay_infinite() -> None:
    unbounded_above = Estimate(1000.0, 800.0, math.inf, "examples", "g")
    result = largest_batch(unbounded_above, EDGE, train_size=N).batch_size
    assert math.isinf(result.low) and math.isfinite(result.high)


def test_unreachable_noise_and_unmeasured_batch_sizes_are_labelled() -> None:
    assert largest_batch(noise(1e6), EDGE, train_size=N).label == "unreachable"
    assert largest_batch(noise(10.0), EDGE, train_size=N).label == "extrapolated"
    missing = Estimate(math.nan, math.nan, math.nan, "examples", "g")
    assert largest_batch(missing, EDGE, train_size=N).label == "not_measured"


def test_outside_the_measured_batch_sizes_the_edge_errs_downward() -> None:
    assert EDGE.at(16 * 8).value == pytest.approx(3)
    single = EdgeByBatch((16.0,), (math.log(3),), (math.log(2.6),), (math.log(3.3),))
    assert single.at(8).value == pytest.approx(1.5)
    assert single.at(8).low == pytest.approx(1.3)
    assert not single.measured(8) and single.measured(16)


def test_between_batch_sizes_the_errors_add_in_quadrature() -> None:
    middle = EDGE.at(8)
    quadrature = math.hypot(math.log(2 / 1.8), math.log(3 / 2.6)) / 2
    assert math.log(middle.value / middle.low) == pytest.approx(quadrature)
    assert EDGE.at(4).low == pytest.approx(1.8)


def test_an_empty_edge_is_refused() -> None:
    with pytest.raises(BadInput, match="largest batch"):
        largest_batch(noise(100), EdgeByBatch((), (), (), ()), train_size=N)
