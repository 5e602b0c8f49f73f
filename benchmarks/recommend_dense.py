"""Measure the regret of recommendations on the quickstart's problem, whose cells were all trained.

A table holds every cell of the quickstart's problem at its widths and at twice the largest, with ten seeds or more.
Each draw takes some seeds and some rungs of the narrower widths, together with the stability ladders and the cells of
the price of a finished quickstart, and asks for a recommendation at a width that it does not see. The regret is read
from the table at that width: the best cell is chosen on one half of its seeds and scored on the other, and the
recommended noise scale is scored on the same half by monotone interpolation between the cells.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from noisescale import Study
from noisescale.laws import fit, recommend

CHANCE = 0.1
TARGETS = (256, 128)


@dataclass(frozen=True)
class Drawn:
    """A study that was put together from finished runs.

    Args:
        spec: Spec of the study.
        table: Its runs.
    """

    spec: dict[str, Any]
    table: pd.DataFrame

    def runs(self) -> pd.DataFrame:
        """Return the runs."""
        return self.table


def drawn_study(
    quickstart: Study, dense: pd.DataFrame, target: int, seeds: int, spacing: int, generator: np.random.Generator
) -> Drawn:
    """Draw a study of the widths below the target.

    Args:
        quickstart: A finished quickstart, for its stability ladders and its spec.
        dense: The dense table.
        target: Width that is asked for.
        seeds: Number of seeds.
        spacing: 1 for a ladder of √2, 2 for a ladder of factor 2.
        generator: Random generator.
    """
    runs = quickstart.runs()
    template = runs[runs.purpose == "sweep"].iloc[0]
    chosen = generator.choice(np.sort(dense[dense.width < target].seed.unique()), seeds, replace=False)
    batches = np.sort(dense[dense.width < target].batch_size.unique())
    start, stop = generator.integers(0, 2), generator.integers(0, 2)
    rungs = batches[start : len(batches) - stop][generator.integers(0, spacing) :: spacing]
    cells = dense[(dense.width < target) & dense.seed.isin(chosen) & dense.batch_size.isin(rungs)].reset_index(
        drop=True
    )
    table = pd.DataFrame([template] * len(cells)).reset_index(drop=True)
    for name in ("width", "batch_size", "learning_rate", "steps", "seed", "status", "collapsed", "noise_scale"):
        table[name] = cells[name].to_numpy()
    for metric in ("accuracy", "loss"):
        table[f"test_{metric}"] = cells[f"test_{metric}"].to_numpy()
        table[f"drift_test_{metric}"] = 0.0
    table["normalized_noise_scale"], table["temperature"] = cells.noise_scale, cells.learning_rate / cells.batch_size
    table["late"], table["run_id"] = True, [f"dense-{index}" for index in range(len(cells))]
    others = runs[(runs.purpose != "sweep") & (runs.width < target)]
    return Drawn(quickstart.spec, pd.concat([table, others], ignore_index=True))


def regret(dense: pd.DataFrame, target: int, noise_scale: float) -> float:
    """Return the regret of a noise scale at a width, in accuracy."""
    runs = dense[dense.width == target].copy()
    runs.loc[runs.collapsed.astype(bool), "test_accuracy"] = CHANCE
    halves = [runs[runs.seed % 2 == parity].groupby("noise_scale").test_accuracy.mean() for parity in (0, 1)]
    result = []
    for choosing, scoring in (halves, halves[::-1]):
        curve = PchipInterpolator(np.log(scoring.index.to_numpy()), scoring.to_numpy())
        result.append(float(scoring[choosing.idxmax()] - curve(math.log(noise_scale))))
    return float(np.mean(result))


def best_noise(dense: pd.DataFrame, target: int) -> float:
    """Return the noise scale of the best cell at a width."""
    runs = dense[dense.width == target].copy()
    runs.loc[runs.collapsed.astype(bool), "test_accuracy"] = CHANCE
    return float(runs.groupby("noise_scale").test_accuracy.mean().idxmax())


def measure(quickstart: Study, dense: pd.DataFrame, draws: int) -> pd.DataFrame:
    """Return one row for each draw."""
    rows = []
    for target in TARGETS:
        for spacing in (1, 2):
            for seeds in (10, 5, 3):
                for draw in range(draws):
                    generator = np.random.default_rng([target, spacing, seeds, draw])
                    study = drawn_study(quickstart, dense, target, seeds, spacing, generator)
                    fitted = fit(study)
                    row: dict[str, Any] = {"width": target, "ladder": "√2" if spacing == 1 else "2", "seeds": seeds}
                    row["law"] = fitted.groups[0].primary_series.laws["accuracy"].normalized_noise_scale.status == "ok"
                    for prefer in ("metric", "steps"):
                        recommendation = recommend(fitted, target, **({} if OLD else {"prefer": prefer}))
                        row[prefer] = regret(dense, target, recommendation.noise_scale.value)
                        row[f"{prefer} batch"] = recommendation.batch_size
                        noise = recommendation.normalized_noise_scale
                    row["covers"] = noise.covers(best_noise(dense, target))
                    row["noise"] = noise.value
                    row["bound"] = recommendation.expected_regret.high if not OLD else math.nan
                    rows.append(row)
    return pd.DataFrame(rows)


OLD = "prefer" not in recommend.__code__.co_varnames


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=40)
    arguments = parser.parse_args()
    dense, quickstart = pd.read_csv(arguments.table), Study.open(arguments.study)
    rows = measure(quickstart, dense, arguments.draws)
    span = dense[dense.width == 256].groupby("noise_scale").test_accuracy.mean().max() - CHANCE
    for key, part in rows.groupby(["width", "ladder", "seeds"]):
        values = 100 * part[["metric", "steps"]] / span
        numbers = [
            "{}: median {:.2f} p90 {:.2f} max {:.2f}".format(name, *values[name].quantile([0.5, 0.9, 1.0]))
            for name in values
        ]
        batches = f"B {part['metric batch'].median():g} {part['steps batch'].median():g}"
        shares = f"laws {part.law.mean():.2f} covers {part.covers.mean():.2f}"
        print(*key, shares, *numbers, batches, f"above the bound {(part.metric > part.bound).mean():.2f}")


if __name__ == "__main__":
    main()
