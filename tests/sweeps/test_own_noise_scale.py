"""In the parameterization "own", a cell has one normalized noise scale: the grid's, whatever the seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from noisescale.laws import fit
from noisescale.sweeps import Grid, SweepSpec, sweep


def test_a_cell_of_own_has_the_normalized_noise_scale_of_the_grid(
    make_spec: Callable[..., SweepSpec], tmp_path: Path
) -> None:
    values = [0.5, 1.5]
    spec = make_spec(
        grid__parameterization=["own"], grid__learning_rate=None, grid__normalized_noise_scale=values,
        grid__width=[4, 8], seeds=3,
    )  # fmt: skip
    study = sweep(spec, tmp_path / "study", quiet=True)
    runs = study.finished()
    assert len(runs) == 12
    for (width, _), cell in runs.groupby(["width", "learning_rate"]):
        assert cell.seed.nunique() == 3
        assert cell.normalized_noise_scale.nunique() == 1
        assert cell.init_variance.nunique() == 1
        # torch's linear layers draw uniformly within ±1/√d.
        assert cell.init_variance.iloc[0] == pytest.approx(1 / (3 * int(str(width))), rel=0.002)
        assert min(abs(cell.normalized_noise_scale.iloc[0] / value - 1) for value in values) < 1e-12
        ratio = Grid(spec).noise_ratio("own", int(str(width)), spec.grid.init_scale[0])
        assert cell.normalized_noise_scale.iloc[0] / cell.noise_scale.iloc[0] == pytest.approx(ratio, rel=1e-12)
    layers = study.layers().merge(runs[["run_id", "width"]], on="run_id")
    assert (layers.groupby(["width", "layer"]).init_variance.nunique() == 1).all()
    for row in fit(study).groups[0].primary_series.widths:
        assert [cell.normalized_noise_scale for cell in row.cells] == pytest.approx(values, rel=1e-12)
        assert row.log_ratio == pytest.approx(math.log(Grid(spec).noise_ratio("own", int(row.width), 2.0)), rel=1e-9)
