"""Measure the regret of recommendations on the quickstart's problem, whose cells were all trained.

A table holds every cell of the quickstart's problem at its widths and at twice the largest, with ten seeds or more.
Each draw takes some seeds and some rungs of the narrower widths, together with the stability ladders and the cells of
the price of a finished quickstart, and asks for a recommendation at a width that it does not see. The regret is read
from the table at that width: the best cell is chosen on one half of its seeds and scored on the other, and the
recommended noise scale is scored on the same half by monotone interpolation between the cells.

    python benchmarks/recommend_dense.py --table DENSE.csv --study runs/mnist1d --baseline ../noisescale-0.1/src

Writes recommend-mnist1d.csv, which `make recommend` puts on its page.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from noisescale import Study
from noisescale.errors import BadInput
from noisescale.laws import fit, recommend

RESULTS = Path(__file__).parent / "results" / "recommend-mnist1d.csv"
CHANCE = 0.1
TARGETS = (256, 128)
# Draws with smaller numbers were looked at while the estimators were written.
FIRST_DRAW = 100


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
                for draw in range(FIRST_DRAW, FIRST_DRAW + draws):
                    generator = np.random.default_rng([target, spacing, seeds, draw])
                    study = drawn_study(quickstart, dense, target, seeds, spacing, generator)
                    fitted = fit(study)
                    row: dict[str, Any] = {
                        "width": target,
                        "ladder": "√2" if spacing == 1 else "2",
                        "seeds": seeds,
                        "refused": False,
                    }
                    group = fitted.groups[0]
                    row["law"] = group.series[group.primary].laws["accuracy"].normalized_noise_scale.status == "ok"
                    rows.append(row)
                    try:
                        chosen = {
                            prefer: recommend(fitted, target, **({} if OLD else {"prefer": prefer}))
                            for prefer in ("metric", "steps")
                        }
                    except BadInput:
                        # Version 0.1 refuses ladders of fewer than five cells.
                        row["refused"] = True
                        continue
                    for prefer, recommendation in chosen.items():
                        row[prefer] = regret(dense, target, recommendation.noise_scale.value)
                        row[f"{prefer} batch"] = recommendation.batch_size
                    row["covers"] = chosen["metric"].normalized_noise_scale.covers(best_noise(dense, target))
                    row["bound"] = math.nan if OLD else chosen["metric"].expected_regret.high
    return pd.DataFrame(rows)


# Version 0.1 has neither preferences nor an expected regret.
OLD = "prefer" not in recommend.__code__.co_varnames


def summary(rows: pd.DataFrame, span: float, version: str) -> pd.DataFrame:
    """Return one line for each design, with regrets in percent of the span.

    Args:
        rows: One row for each draw.
        span: Accuracy of the best cell above chance.
        version: Version of the package.
    """
    lines = []
    for (width, ladder, seeds), drawn in rows.groupby(["width", "ladder", "seeds"]):
        part = drawn[~drawn.refused]
        line: dict[str, Any] = {"version": version, "width": width, "ladder": ladder, "seeds": seeds}
        line |= {"draws": len(drawn), "refused": drawn.refused.mean()}
        for prefer in ("metric",) if part["bound"].isna().all() else ("metric", "steps"):
            values = 100 * part[prefer] / span
            line |= {f"{prefer}, median": values.median(), f"{prefer}, 90th percentile": values.quantile(0.9)}
            line |= {f"{prefer}, largest": values.max(), f"{prefer}, median B": part[f"{prefer} batch"].median()}
        line["optimum in its interval"] = part.covers.mean()
        line["regret above its bound"] = math.nan if part["bound"].isna().all() else (part.metric > part.bound).mean()
        line["with a law"] = part.law.mean()
        lines.append(line)
    return pd.DataFrame(lines)


def main() -> None:
    """Measure both versions and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="CSV file with every cell of the problem")
    parser.add_argument("--study", type=Path, required=True, help="folder of a finished quickstart")
    parser.add_argument("--draws", type=int, default=40, help="draws of each design")
    parser.add_argument("--baseline", type=Path, help="folder src of a checkout of version 0.1")
    parser.add_argument("--rows", type=Path, help="write the draws to this file, and no table")
    arguments = parser.parse_args()
    dense = pd.read_csv(arguments.table)
    rows = measure(Study.open(arguments.study), dense, arguments.draws)
    if arguments.rows is not None:
        rows.to_csv(arguments.rows, index=False)
        return
    span = float(dense[dense.width == max(TARGETS)].groupby("noise_scale").test_accuracy.mean().max()) - CHANCE
    tables = [summary(rows, span, "this version")]
    if arguments.baseline is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.csv"
            options = ["--table", arguments.table, "--study", arguments.study, "--draws", str(arguments.draws)]
            environment = {**os.environ, "PYTHONPATH": str(arguments.baseline)}
            subprocess.run([sys.executable, __file__, *options, "--rows", path], env=environment, check=True)
            tables.append(summary(pd.read_csv(path), span, "version 0.1"))
    table = pd.concat(tables, ignore_index=True).round(2)
    table.to_csv(RESULTS, index=False)
    print(table.to_string())


if __name__ == "__main__":
    main()
