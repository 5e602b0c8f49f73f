"""Figures of claims: labels of theory curves, and axes with whole numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noisescale.claims import Curve, Panel, verify
from noisescale.report import claim_figure


def test_only_theory_curves_are_labelled_as_theory(tmp_path: Path) -> None:
    ((verdict, _),) = verify("C2.2", scale="smoke", out=tmp_path)
    x = np.arange(5.0)
    curves = (
        Curve("measured", x, x + 1),
        Curve("law", x, x + 1, kind="theory"),
        Curve("no difference", x, x, kind="reference"),
    )
    (axes,) = claim_figure(verdict, (Panel("seed", "ratio", curves, whole_x=True),)).axes
    assert sorted(axes.get_legend_handles_labels()[1]) == ["measured", "no difference", "theory: law"]
    ticks = axes.get_xticks()
    assert len(ticks) > 1 and np.array_equal(ticks, ticks.round())
