"""`make scale`: a sweep of many tiny runs, and what it costs beside the training.

MLPs of width 8 on the digits, B = 16, 500 steps, 20 evaluations, on all cores: the wall time with its share outside of
training and evaluation, the memory of the driver, and the time of `status`, `fit` and `report` on the finished folder,
each a process of its own with its imports. Then shards by the thousand, made by hand: what joining them is worth.
"""

from __future__ import annotations

import argparse
import json
import math
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

from noisescale.claims.experiments.in_process import pack_trainers
from noisescale.runs import Run, RunResult, pack_id
from noisescale.store import Study, compact, write_shard
from noisescale.store.seal import sealed
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

# Of the table of sweeps, what is a cost.
_MODELLED = ("sweep (s)", "driver (MB)", "packs", "shards", "shards (MB)", "again (s)", "again (MB)", "status (s)",
             "fit (s)", "report (s)", "report (MB)", "page (MB)")  # fmt: skip
_OF_MEMORY = ("driver (MB)", "report (MB)")
# An exponent above it is growth worse than linear; two hundredths are the noise of one measurement.
LINEAR = 1.02
# Memory of a machine on which such a sweep would be looked at.
MACHINE_GB = 16

# A command in this process, and then the largest memory that it had, in MB.
MEASURED = (
    "import resource, sys; from noisescale.cli import main\n"
    "try: main(sys.argv[2:])\n"
    "except SystemExit as end: assert not end.code, end.code\n"
    "finally: open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))\n"
)


def main() -> int:
    """Read the arguments, run, print the tables and write them to `results/scale.md`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--copies", type=int, nargs="*", default=[], help="runs that are not trained")
    parser.add_argument("--shards", type=int, nargs="+", default=[1000, 10_000])
    arguments = parser.parse_args()
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [of_runs(folder / f"runs-{count}", count, cores) for count in arguments.runs]
        source = folder / f"runs-{arguments.runs[0]}" / "out"
        rows += [of_copies(source, folder / f"copies-{count}", count) for count in arguments.copies]
        sweeps = pd.DataFrame(rows)
        shards = pd.DataFrame([row for count in arguments.shards for row in of_shards(folder / f"{count}", count)])
    words = " ".join(f"--{name} {' '.join(map(str, counts))}" for name, counts in vars(arguments).items() if counts)
    text = "\n".join(
        [
            "# Sweeps of many runs",
            "",
            f"`python benchmarks/scale.py {words}` on {cores} cores. Every command is a process of its own, imports "
            "included.",
            "",
            table(sweeps),
            "",
            "Outside: the share of the workers' time that is neither training nor evaluation. Again: the same sweep on "
            "the finished folder. Memory: the largest of the command's own process. Copied: the runs of the first row "
            "again and again with other seeds, not trained.",
            "",
            *limits(sweeps),
            "",
            "Shards of ten runs each, as they are written and as they are joined:",
            "",
            table(shards),
            "",
            *model(sweeps),
        ]
    )
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    return 0


def of_runs(folder: Path, count: int, cores: int) -> dict[str, str]:
    """Sweep so many runs, and look at them with every command."""
    spec, out = folder / "spec.toml", folder / "out"
    folder.mkdir()
    spec.write_text(SPEC.format(seeds=count // len(RATES), rates=RATES), encoding="utf-8")
    wall, memory = measured("sweep", str(spec), "--out", str(out))
    times = json.loads((out / "times.jsonl").read_text().splitlines()[0])
    worked = times["training"] + times["evaluation"]
    return {
        "runs": f"{count:,} trained",
        "sweep (s)": f"{wall:.0f}",
        "runs/s": f"{count / wall:.0f}",
        "outside (%)": f"{100 * (1 - worked / (wall * cores)):.0f}",
        "driver (MB)": f"{memory:.0f}",
        **looks(spec, out, count),
    }


def of_copies(source: Path, folder: Path, count: int) -> dict[str, str]:
    """Look at a folder of so many runs that was not trained: another's runs, each again and again with other seeds."""
    spec, out = folder / "spec.toml", folder / "out"
    folder.mkdir()
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("shards", "plan.jsonl", "report", "times.jsonl"))
    (out / "shards").mkdir()
    spec.write_text(SPEC.format(seeds=count // len(RATES), rates=RATES), encoding="utf-8")
    table = read_shards(source / "shards")
    assert table is not None
    packs, apart = [], len(table) // len(RATES)
    for number in range(count // len(table)):
        runs = [
            replace(run, seed=run.seed + number * apart)
            for run in map(Run.from_record, table.drop_columns(["curves", "layers"]).to_pylist())
        ]
        pack = Pack(pack_id(runs), tuple(runs), 1.0)
        columns = {
            "seed": [run.seed for run in runs], "run_id": [run.run_id for run in runs],
            "pack_id": [pack.pack_id] * len(runs),
        }  # fmt: skip
        own = table
        for name, values in columns.items():
            own = own.set_column(own.column_names.index(name), name, pa.array(values, own.schema.field(name).type))
        (out / "shards" / f"{pack.pack_id}.parquet").write_bytes(sealed(own))
        packs.append(pack)
    Plan(out / "plan.jsonl").add(packs)
    return {
        "runs": f"{count:,} copied", "sweep (s)": "", "runs/s": "", "outside (%)": "", "driver (MB)": "",
        **looks(spec, out, count),
    }  # fmt: skip


def looks(spec: Path, out: Path, count: int) -> dict[str, str]:
    """What every other command takes, and the sweep once more, which finds nothing to do."""
    found = {
        "again": measured("sweep", str(spec), "--out", str(out)),
        **{name: measured(name, str(out)) for name in ("status", "fit", "report")},
    }
    assert len(Study.open(out).finished()) == count
    shards, page = list((out / "shards").iterdir()), out / "report" / "index.html"
    return {
        "packs": str(len(Plan(out / "plan.jsonl").packs)),
        "shards": str(len(shards)),
        "shards (MB)": f"{sum(path.stat().st_size for path in shards) / 1e6:.1f}",
        **{f"{name} (s)": f"{seconds:.1f}" for name, (seconds, _) in found.items()},
        **{f"{name} (MB)": f"{found[name][1]:.0f}" for name in ("again", "report")},
        "page (MB)": f"{page.stat().st_size / 1e6:.1f}",
    }


def measured(*words: str) -> tuple[float, float]:
    """Wall seconds of a command, and the largest memory of its own process in MB."""
    with tempfile.NamedTemporaryFile() as file:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", MEASURED, file.name, *words], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began, float(Path(file.name).read_text())


def of_shards(folder: Path, count: int) -> list[dict[str, str]]:
    """The time of reading so many shards of ten runs, before and after they are joined."""
    shards = folder / "shards"
    shards.mkdir(parents=True)
    spec = SweepSpec.from_toml(written(folder / "spec.toml", SPEC.format(seeds=1, rates=RATES)))
    (trainer,) = pack_trainers(spec)
    trainer.advance()
    results, random = trainer.results(), np.random.default_rng(0)
    for number in range(count):
        runs = [moved(result, number, random) for result in results]
        write_shard(shards, f"{number:016x}", runs)
    rows = []
    for how in ("single", "joined"):
        began = time.perf_counter()
        seconds = 0.0
        if how == "joined":
            compact(shards, most=0)
            seconds = time.perf_counter() - began
        files = list(shards.iterdir())
        reads = [time_of_reading(shards, curves, count * len(RATES)) for curves in (False, True)]
        rows.append(
            {
                "packs": f"{count:,}", "files": f"{len(files):,} {how}",
                "size (MB)": f"{sum(path.stat().st_size for path in files) / 1e6:.0f}",
                "joining (s)": f"{seconds:.1f}" if seconds else "",
                "runs read (s)": f"{reads[0]:.2f}", "with curves (s)": f"{reads[1]:.2f}",
            }
        )  # fmt: skip
    return rows


def time_of_reading(shards: Path, curves: bool, count: int) -> float:
    """The median of five readings, after one that is not counted; of fewer where they take longer than a minute."""
    seconds: list[float] = []
    while len(seconds) < 6 and (len(seconds) < 2 or sum(seconds) < 60):
        began = time.perf_counter()
        found = read_shards(shards, curves=curves)
        seconds.append(time.perf_counter() - began)
        assert found is not None and len(found) == count
    return median(seconds[1:])


def written(path: Path, text: str) -> Path:
    """The path, with a text written to it."""
    path.write_text(text, encoding="utf-8")
    return path


def moved(result: RunResult, number: int, random: np.random.Generator) -> RunResult:
    """The same run with a seed and curves of its own, so that a joined file holds as much as it would."""
    curves = {
        name: values if name == "step" else list(np.array(values) * random.lognormal(0.0, 0.1, len(values)))
        for name, values in result.curves.items()
    }
    return replace(result, run=replace(result.run, seed=number), curves=curves)


def limits(sweeps: pd.DataFrame) -> list[str]:
    """What a sweep of 10⁵ runs may take, and whether the largest row keeps to it."""
    last = sweeps.iloc[-1]
    wanted = {
        "outside (%)": ("of the time outside training", 20.0), "driver (MB)": ("of the driver's memory", 1000.0),
        "report (s)": ("for the report", 20.0), "page (MB)": ("for its page", 10.0),
    }  # fmt: skip
    return [
        f"- {'yes' if float(last[name]) <= most else 'no'}: {last['runs']}, at most {most:g} {name.split()[1]} {what}"
        for name, (what, most) in wanted.items()
        if last[name]
    ]


def model(sweeps: pd.DataFrame) -> list[str]:
    """What a sweep of R runs costs, as a + b·R through the smallest and the largest that were run; how it grew at the
    end, as an exponent of R, which must not be above 1; and what that makes of 10⁶ and 10⁷ runs.
    """
    counts = sweeps["runs"].str.replace(r"[^0-9]", "", regex=True).astype(float).to_numpy()
    if len(counts) < 2:
        return []
    lines = [
        "What a sweep of R runs costs, a + b·R, through the smallest and the largest of the above; its growth at the",
        "end, as an exponent of R; and what 10⁶ and 10⁷ runs would take by that:", "",
        "| | a | b, for 1,000 runs | exponent | 10⁶ runs | 10⁷ runs |", "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    grown, most = {}, {}
    for name in _MODELLED:
        values = sweeps[name].replace("", "nan").astype(float).to_numpy()
        kept = np.isfinite(values)
        if kept.sum() < 2:
            continue
        at, own = counts[kept], values[kept]
        slope = (own[-1] - own[0]) / (at[-1] - at[0])
        start = own[0] - slope * at[0]
        grown[name] = math.log(own[-1] / own[-2]) / math.log(at[-1] / at[-2])
        six, seven = (start + slope * runs for runs in (1e6, 1e7))
        if name in _OF_MEMORY:
            most[name.split()[0]] = (1e3 * MACHINE_GB - start) / slope
        lines.append(f"| {name} | {start:,.3g} | {1000 * slope:,.3g} | {grown[name]:.2f} | {six:,.0f} | {seven:,.0f} |")
    worst = max(grown, key=lambda name: grown[name])
    holds = ", ".join(f"{runs:,.1g} for {name}" for name, runs in most.items())
    return [
        *lines, "",
        f"- {'yes' if grown[worst] <= LINEAR else 'no'}: growth no worse than linear, exponents at most {LINEAR:g}: "
        f"the largest is {grown[worst]:.2f}, of {worst}",
        f"- Memory ends it: {MACHINE_GB} GB hold about so many runs: {holds}. A sweep beyond that is several studies.",
    ]  # fmt: skip


def table(frame: pd.DataFrame) -> str:
    """A Markdown table."""
    rows = [list(frame.columns), ["---:"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
