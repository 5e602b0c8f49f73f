from __future__ import annotations

import numpy as np

from noisescale.laws.cubic_fits import local_cubic

UNEVEN = np.log([1.0, 2, 3, 4, 6, 8, 11, 16, 23, 32])


def test_cubics_are_reproduced_on_an_uneven_ladder() -> None:
    maps = local_cubic(UNEVEN)
    coefficients = np.array([0.3, -1.0, 0.7, 0.2])
    x = maps.grid
    height = np.polyval(coefficients, x)
    slope = np.polyval(np.polyder(coefficients), x)
    np.testing.assert_allclose(maps.height @ np.polyval(coefficients, UNEVEN), height, atol=1e-9)
    np.testing.assert_allclose(maps.slope @ np.polyval(coefficients, UNEVEN), slope, atol=1e-8)


def test_the_grid_runs_from_end_to_end() -> None:
    maps = local_cubic(UNEVEN)
    assert maps.grid[0] == UNEVEN[0] and maps.grid[-1] == UNEVEN[-1]
    assert np.all(np.diff(maps.grid) > 0)


def test_far_cells_have_no_weight() -> None:
    x = np.arange(20) * np.log(np.sqrt(2))
    maps = local_cubic(x)
    row = int(np.argmin(np.abs(maps.grid - x[10])))
    assert np.flatnonzero(np.abs(maps.slope[row]) > 1e-12).tolist() == [7, 8, 9, 11, 12, 13]
