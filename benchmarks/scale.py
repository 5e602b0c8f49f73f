"""Measure the overhead of sweeps with many tiny runs (`make scale`).

MLPs of width 8 on the digits, B = 16, 500 steps, 20 evaluations, on all cores. Measured are the wall time with its
share outside training and evaluation, the memory of the driver, and the time of `status`, `fit` and `report` on the
finished folder. Every command is a separate process, including its imports. Then thousands of synthetic shards are read
before and after they are merged. At last, `fit` and `recommend` run on planted studies of 10⁴ runs with laws.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pyarrow as pa
from planted_folder import PlantedGrid, write_planted

from noisescale.claims.experiments.in_process import pack_trainers
from noisescale.laws import fit
from noisescale.runs import Run, RunResult, pack_id
from noisescale.store import Study, compact, write_shard
from noisescale.store.seal import seal_table
from noisescale.store.shards import read_shards
from noisescale.sweeps import SweepSpec
from noisescale.sweeps.machine import usable_cores
from noisescale.sweeps.plan import Pack, Plan

RESULTS = Path(__file__).resolve().parent / "results" / "scale.md"
RATES = [0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6]

SPEC = """
name = "scale"
seeds = {seeds}
[dataset]
name = "digits"
[model]
family = "mlp"
[grid]
width = [8]
learning_rate = {rates}
batch_size = [16]
[training]
steps = 500
evaluations = 20
[fit]
extend_edges = false
[stability]
seeds = 0
"""

# Planted studies of 10⁴ runs, and the limit of `fit` and `recommend` on them, in seconds of processor time.
_WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
LAW_GRIDS = (
    PlantedGrid(("ntk", "standard"), _WIDTHS, (2.0,), tuple(range(2, 102, 2)), 10),
    PlantedGrid(("ntk",), _WIDTHS[:8], (2.0,), tuple(range(2, 252, 2)), 10),
    PlantedGrid(("ntk", "standard"), _WIDTHS, (0.5, 1.0, 2.0, 4.0, 8.0), (2, 3, 4, 6, 8, 11, 16, 23, 32, 45), 10),
)
LAW_SECONDS = 10

# Columns of the table with costs, which are modelled as a function of the number of runs.
_MODELLED = ("sweep (s)", "driver (MB)", "packs", "shards", "shards (MB)", "again (s)", "again (MB)", "status (s)",
             "fit (s)", "report (s)", "report (MB)", "page (MB)")  # fmt: skip
_OF_MEMORY = ("driver (MB)", "report (MB)")
# Exponents above this limit count as growth faster than linear. The margin of 0.02 is the noise of one measurement.
LINEAR = 1.02
# Memory of the machine that analyses a sweep, in GB.
MACHINE_GB = 16

# Program that runs a command in its process, and writes the peak memory of the process to a file, in MB.
RUN_AND_MEASURE = (
    "import resource, sys; from noisescale.cli import main\n"
    "try: main(sys.argv[2:])\n"
    "except SystemExit as end: assert not end.code, end.code\n"
    "finally: open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))\n"
)


def main() -> int:
    """Run all measurements and write the tables to `results/scale.md`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument(
        "--copies", type=int, nargs="*", default=[], help="numbers of runs that are copied, not trained"
    )
    parser.add_argument("--shards", type=int, nargs="+", default=[1000, 10_000])
    arguments = parser.parse_args()
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [measure_sweep(folder / f"runs-{count}", count, cores) for count in arguments.runs]
        source = folder / f"runs-{arguments.runs[0]}" / "out"
        rows += [measure_copies(source, folder / f"copies-{count}", count) for count in arguments.copies]
        sweeps = pd.DataFrame(rows)
        shards = pd.DataFrame([row for count in arguments.shards for row in measure_shards(folder / f"{count}", count)])
        laws = pd.DataFrame([measure_laws(folder / f"laws-{number}", grid) for number, grid in enumerate(LAW_GRIDS)])
    options = " ".join(f"--{name} {' '.join(map(str, counts))}" for name, counts in vars(arguments).items() if counts)
    text = "\n".join(
        [
            "# Sweeps of many runs",
            "",
            f"`python benchmarks/scale.py {options}` on {cores} cores. Every command is a separate process, "
            "including its imports.",
            "",
            table(sweeps),
            "",
            "Outside: share of the workers' time that is neither training nor evaluation. Again: the same sweep on the "
            "finished folder. Memory: peak of the command's process. Copied: the runs of the first row, repeated with "
            "other seeds instead of trained.",
            "",
            *limits(sweeps),
            "",
            "Shards of ten runs each, as they are written and after they are merged:",
            "",
            table(shards),
            "",
            "Planted runs whose optimum follows a law. Seconds of processor time of a command; the limit is "
            f"{LAW_SECONDS}:",
            "",
            table(laws),
            "",
            *model(sweeps),
        ]
    )
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    return 0


def measure_sweep(folder: Path, count: int, cores: int) -> dict[str, str]:
    """Train a sweep, run every command on it, and return a row of the table.

    Args:
        folder: Folder of the sweep.
        count: Number of runs.
        cores: Number of cores of the machine.
    """
    spec, out = folder / "spec.toml", folder / "out"
    folder.mkdir()
    spec.write_text(SPEC.format(seeds=count // len(RATES), rates=RATES), encoding="utf-8")
    wall, memory = run_command("sweep", str(spec), "--out", str(out))
    times = json.loads((out / "times.jsonl").read_text().splitlines()[0])
    useful = times["training"] + times["evaluation"]
    return {
        "runs": f"{count:,} trained",
        "sweep (s)": f"{wall:.0f}",
        "runs/s": f"{count / wall:.0f}",
        "outside (%)": f"{100 * (1 - useful / (wall * cores)):.0f}",
        "driver (MB)": f"{memory:.0f}",
        **measure_commands(spec, out, count),
    }


def measure_copies(source: Path, folder: Path, count: int) -> dict[str, str]:
    """Copy the runs of a sweep with other seeds, run every command on the copies, and return a row of the table.

    Args:
        source: Folder of the sweep that is copied.
        folder: Folder of the copies.
        count: Number of runs.
    """
    spec, out = folder / "spec.toml", folder / "out"
    folder.mkdir()
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("shards", "plan.jsonl", "report", "times.jsonl"))
    (out / "shards").mkdir()
    spec.write_text(SPEC.format(seeds=count // len(RATES), rates=RATES), encoding="utf-8")
    table = read_shards(source / "shards")
    assert table is not None
    packs, seeds = [], len(table) // len(RATES)
    for number in range(count // len(table)):
        runs = [
            replace(run, seed=run.seed + number * seeds)
            for run in map(Run.from_record, table.drop_columns(["curves", "layers"]).to_pylist())
        ]
        pack = Pack(pack_id(runs), tuple(runs), 1.0)
        columns = {
            "seed": [run.seed for run in runs], "run_id": [run.run_id for run in runs],
            "pack_id": [pack.pack_id] * len(runs),
        }  # fmt: skip
        copy = table
        for name, values in columns.items():
            copy = copy.set_column(copy.column_names.index(name), name, pa.array(values, copy.schema.field(name).type))
        (out / "shards" / f"{pack.pack_id}.parquet").write_bytes(seal_table(copy))
        packs.append(pack)
    Plan(out / "plan.jsonl").add(packs)
    return {
        "runs": f"{count:,} copied", "sweep (s)": "", "runs/s": "", "outside (%)": "", "driver (MB)": "",
        **measure_commands(spec, out, count),
    }  # fmt: skip


def measure_commands(spec: Path, out: Path, count: int) -> dict[str, str]:
    """Measure every other command on a finished folder, and the sweep command, which has nothing left to train."""
    costs = {
        "again": run_command("sweep", str(spec), "--out", str(out)),
        **{name: run_command(name, str(out)) for name in ("status", "fit", "report")},
    }
    assert len(Study.open(out).finished()) == count
    shards, page = list((out / "shards").iterdir()), out / "report" / "index.html"
    return {
        "packs": str(len(Plan(out / "plan.jsonl").packs)),
        "shards": str(len(shards)),
        "shards (MB)": f"{sum(path.stat().st_size for path in shards) / 1e6:.1f}",
        **{f"{name} (s)": f"{seconds:.1f}" for name, (seconds, _) in costs.items()},
        **{f"{name} (MB)": f"{costs[name][1]:.0f}" for name in ("again", "report")},
        "page (MB)": f"{page.stat().st_size / 1e6:.1f}",
    }


def run_command(*words: str) -> tuple[float, float]:
    """Run a command and return its wall time in seconds and the peak memory of its process in MB."""
    with tempfile.NamedTemporaryFile() as file:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", RUN_AND_MEASURE, file.name, *words], check=True, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - began, float(Path(file.name).read_text())


def measure_shards(folder: Path, count: int) -> list[dict[str, str]]:
    """Time the reading of shards with ten runs, before and after they are merged. Return two rows of the table.

    Args:
        folder: Folder of the shards.
        count: Number of shards.
    """
    shards = folder / "shards"
    shards.mkdir(parents=True)
    spec_file = folder / "spec.toml"
    spec_file.write_text(SPEC.format(seeds=1, rates=RATES), encoding="utf-8")
    spec = SweepSpec.from_toml(spec_file)
    (trainer,) = pack_trainers(spec)
    trainer.advance()
    results, generator = trainer.results(), np.random.default_rng(0)
    for number in range(count):
        runs = [with_seed(result, number, generator) for result in results]
        write_shard(shards, f"{number:016x}", runs)
    rows = []
    for state in ("single", "merged"):
        began = time.perf_counter()
        seconds = 0.0
        if state == "merged":
            compact(shards, max_single=0)
            seconds = time.perf_counter() - began
        files = list(shards.iterdir())
        without_curves, with_curves = (reading_time(shards, curves, count * len(RATES)) for curves in (False, True))
        rows.append(
            {
                "packs": f"{count:,}", "files": f"{len(files):,} {state}",
                "size (MB)": f"{sum(path.stat().st_size for path in files) / 1e6:.0f}",
                "merging (s)": f"{seconds:.1f}" if seconds else "",
                "runs read (s)": f"{without_curves:.2f}", "with curves (s)": f"{with_curves:.2f}",
            }
        )  # fmt: skip
    return rows


def measure_laws(folder: Path, grid: PlantedGrid) -> dict[str, str]:
    """Write planted runs, run `fit` and `recommend` on them, and return a row of the table.

    Args:
        folder: Folder of the runs.
        grid: Their grid.
    """
    write_planted(folder, grid)
    seconds = {}
    for command, options in (("fit", ()), ("recommend", ("--width", str(2 * max(grid.widths))))):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        run_command(command, str(folder), *options)
        seconds[command] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    lines = repr(fit(Study.open(folder))).splitlines()
    return {
        "runs": f"{grid.runs:,}", "ladders": str(grid.ladders), "cells of each": str(len(grid.batches)),
        "fit (s)": f"{seconds['fit']:.1f}", "recommend (s)": f"{seconds['recommend']:.1f}",
        "printed fit (lines × columns)": f"{len(lines)} × {max(map(len, lines))}",
    }  # fmt: skip


def reading_time(shards: Path, curves: bool, count: int) -> float:
    """Return the median time of five readings in seconds, after one reading that is not counted.

    There are fewer readings if they take more than a minute.

    Args:
        shards: Folder of the shards.
        curves: Whether to read the curves too.
        count: Expected number of runs.
    """
    seconds: list[float] = []
    while len(seconds) < 6 and (len(seconds) < 2 or sum(seconds) < 60):
        began = time.perf_counter()
        runs = read_shards(shards, curves=curves)
        seconds.append(time.perf_counter() - began)
        assert runs is not None and len(runs) == count
    return median(seconds[1:])


def with_seed(result: RunResult, seed: int, generator: np.random.Generator) -> RunResult:
    """Return a result with another seed and perturbed curves, so that merged files compress as real files do."""
    curves = {
        name: values if name == "step" else list(np.array(values) * generator.lognormal(0.0, 0.1, len(values)))
        for name, values in result.curves.items()
    }
    return replace(result, run=replace(result.run, seed=seed), curves=curves)


def limits(sweeps: pd.DataFrame) -> list[str]:
    """State whether the largest sweep stays within the limits for 10⁵ runs."""
    last = sweeps.iloc[-1]
    allowed = {
        "outside (%)": ("of the time outside training", 20.0), "driver (MB)": ("of the driver's memory", 1000.0),
        "report (s)": ("for the report", 20.0), "page (MB)": ("for its page", 10.0),
    }  # fmt: skip
    return [
        f"- {'yes' if float(last[name]) <= limit else 'no'}: {last['runs']}, at most {limit:g} {name.split()[1]} {what}"
        for name, (what, limit) in allowed.items()
        if last[name]
    ]


def model(sweeps: pd.DataFrame) -> list[str]:
    """Model the cost of a sweep of R runs as a + b·R, and extrapolate it to 10⁶ and 10⁷ runs.

    The line passes through the smallest and the largest measured sweep. The growth between the two largest sweeps, as
    an exponent of R, must not exceed 1.
    """
    counts = sweeps["runs"].str.replace(r"[^0-9]", "", regex=True).astype(float).to_numpy()
    if len(counts) < 2:
        return []
    lines = [
        "Cost of a sweep of R runs as a + b·R, through the smallest and the largest measured sweep; the growth between",
        "the two largest, as an exponent of R; and the extrapolation to 10⁶ and 10⁷ runs:", "",
        "| | a | b, for 1,000 runs | exponent | 10⁶ runs | 10⁷ runs |", "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    exponents, runs_in_memory = {}, {}
    for name in _MODELLED:
        values = sweeps[name].replace("", "nan").astype(float).to_numpy()
        measured = np.isfinite(values)
        if measured.sum() < 2:
            continue
        runs, costs = counts[measured], values[measured]
        slope = (costs[-1] - costs[0]) / (runs[-1] - runs[0])
        start = costs[0] - slope * runs[0]
        exponent = exponents[name] = math.log(costs[-1] / costs[-2]) / math.log(runs[-1] / runs[-2])
        if name in _OF_MEMORY:
            runs_in_memory[name.split()[0]] = (1e3 * MACHINE_GB - start) / slope
        million, ten_million = (start + slope * count for count in (1e6, 1e7))
        cells = f"{start:,.3g} | {1000 * slope:,.3g} | {exponent:.2f} | {million:,.0f} | {ten_million:,.0f}"
        lines.append(f"| {name} | {cells} |")
    worst = max(exponents, key=lambda name: exponents[name])
    capacity = ", ".join(f"{runs:,.1g} for {name}" for name, runs in runs_in_memory.items())
    return [
        *lines, "",
        f"- {'yes' if exponents[worst] <= LINEAR else 'no'}: growth no worse than linear (exponents at most "
        f"{LINEAR:g}); the largest exponent is {exponents[worst]:.2f}, for {worst}",
        f"- Memory is the limit: {MACHINE_GB} GB hold about this many runs: {capacity}. Split a larger sweep into "
        "several studies.",
    ]  # fmt: skip


def table(frame: pd.DataFrame) -> str:
    """Format a Markdown table."""
    rows = [list(frame.columns), ["---:"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
