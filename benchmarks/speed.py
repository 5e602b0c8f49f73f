"""Speed of the packed trainer against a plain loop, `torch.func` and JAX, as ratios on this machine; `make bench`.

Everything is timed in rounds, one program after the other, so that whatever else the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from contestants import Row
from timing import PLAIN, Workers

ROWS = (Row(32, 16, 64, 40), Row(128, 16, 64, 40), Row(128, 128, 32, 40), Row(512, 32, 16, 784), Row(512, 128, 16, 784))
RESULTS = Path(__file__).parent / "results"

# What each column of the table is: label, (program, processes, threads of each) of which the faster counts.
COLUMNS: dict[str, tuple[str, list[tuple[str, int, int]]]] = {
    "plain": ("plain loop", [(kind, 1, threads) for kind in PLAIN for threads in (1, 2)]),
    "plain_two": ("two plain loops at once", [(kind, 2, 1) for kind in PLAIN]),
    "trainer": ("whole trainer", [("trainer", 1, 2), ("trainer", 2, 1)]),
    "kernel": ("bare kernel", [("kernel", 1, 2), ("kernel", 2, 1)]),
    "func": ("torch.func vmap", [("func", 1, 2), ("func", 2, 1)]),
    "jax": ("JAX vmap+scan", [("jax", 1, 2)]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of which the median counts")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each program in each round")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    # Programs with two threads wait for each other: on a machine that is busy they stand still, and ratios mislead.
    load = os.getloadavg()[0]
    with Workers(2) as workers:
        rows = [measure_row(workers, row, options.rounds, options.seconds) for row in ROWS]
    record: dict[str, Any] = {
        "machine": {**machine(), "load before": round(load, 1)},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "speed.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = as_markdown(record)
    (options.out / "speed.md").write_text(text, encoding="utf-8")
    print(text)


def measure_row(workers: Workers, row: Row, rounds: int, seconds: float) -> dict[str, Any]:
    """Medians of run-steps per second by program, the GEMM peak in operations per second, the best of each column."""
    programs = sorted({program for _, group in COLUMNS.values() for program in group})
    if not _has_jax():
        programs = [program for program in programs if program[0] != "jax"]
    samples: dict[tuple[str, int, int], list[float]] = {program: [] for program in programs}
    peaks = []
    workers.start_row()
    for program in programs:
        workers.rate(program, row, 0.0)  # builds and compiles
    for _ in range(rounds):
        peaks.append(workers.gemm_peak())
        for program in programs:
            samples[program].append(workers.rate(program, row, seconds))
    medians = {program: statistics.median(values) for program, values in samples.items()}
    best: dict[str, Any] = {}
    for column, (_, group) in COLUMNS.items():
        known = [program for program in group if program in medians]
        if known:
            fastest = max(known, key=medians.__getitem__)
            best[column] = {"run_steps_per_second": medians[fastest], "program": "{} {}×{}".format(*fastest)}
    peak = statistics.median(peaks)
    print(_name(asdict(row)), {"{} {}×{}".format(*p): round(value) for p, value in medians.items()}, file=sys.stderr)
    return {
        **asdict(row),
        "operations_per_run_step": row.operations,
        "gemm_peak": peak,
        "best": best,
        "medians": {"{} {}×{}".format(*program): value for program, value in medians.items()},
        "ratios": {
            "trainer/plain": _ratio(best, "trainer", "plain"),
            "kernel/plain": _ratio(best, "kernel", "plain"),
            "trainer/two plain": _ratio(best, "trainer", "plain_two"),
            "trainer/func": _ratio(best, "trainer", "func"),
            "trainer/jax": _ratio(best, "trainer", "jax"),
            "trainer share of GEMM peak": best["trainer"]["run_steps_per_second"] * row.operations / peak,
            "kernel share of GEMM peak": best["kernel"]["run_steps_per_second"] * row.operations / peak,
        },
    }


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    versions = {name: metadata.version(name) for name in ("torch", "numpy", *(("jax",) if _has_jax() else ()))}
    features = torch.backends.cpu.get_cpu_capability()
    return {"cores": torch.get_num_threads(), "cpu": platform.machine(), "vectors": features, **versions} | {
        "python": platform.python_version()
    }


def as_markdown(record: dict[str, Any]) -> str:
    """The page `speed.md`."""
    lines = [
        "# Speed",
        "",
        "Machine: " + ", ".join(f"{name} {value}" for name, value in record["machine"].items()) + ".",
        "",
    ]
    lines += [
        "Training steps of single runs per second (run-steps/s): two hidden layers, 10 outputs, 4000 examples;",
        f"medians of {record['rounds']} rounds in which all programs were timed one after the other. Of each program's",
        "variants the one with the higher median counts; `p×t` is p processes at once with t threads each (a sweep",
        "runs one process a core). Everything in float32.",
        "",
        "- plain loop: `nn.Sequential`, autograd, `torch.optim.SGD`, indices drawn beforehand, no `.item()`;",
        "  the fastest of single, foreach and fused, of 1 or 2 threads.",
        "- whole trainer: `PackTrainer.advance` with sampling and the look for divergence, without evaluation.",
        "- bare kernel: gradients and update on a fixed batch. torch.func: the generic kernel, in its place.",
        "- share of peak: operations that the step's matrix products need (no gradient of the inputs), over 2048³",
        "  float32 products (the better of one on 2 threads and one a core), timed in the same rounds.",
        "",
    ]
    shown = [column for column in COLUMNS if all(column in row["best"] for row in record["rows"])]
    lines.append(
        "| width, batch, runs, inputs | "
        + " | ".join(COLUMNS[column][0] for column in shown)
        + " | GEMM peak, GFLOP/s |"
    )
    lines.append("|---" * (len(shown) + 2) + "|")
    for row in record["rows"]:
        cells = [
            f"{row['best'][column]['run_steps_per_second']:,.0f} ({row['best'][column]['program']})" for column in shown
        ]
        lines.append(f"| {_name(row)} | " + " | ".join(cells) + f" | {row['gemm_peak'] / 1e9:.0f} |")
    names = list(record["rows"][0]["ratios"])
    lines += ["", "| width, batch, runs, inputs | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in record["rows"]:
        lines.append(f"| {_name(row)} | " + " | ".join(_shown(row["ratios"][name]) for name in names) + " |")
    if "jax" not in shown:
        lines += ["", "JAX was not installed, so its column is absent (`make bench` installs it)."]
    return "\n".join(lines) + "\n"


def _name(row: dict[str, Any]) -> str:
    return f"{row['width']}, {row['batch']}, {row['runs']}, {row['inputs']}"


def _shown(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"


def _ratio(best: dict[str, Any], over: str, under: str) -> float | None:
    rate: Callable[[str], float] = lambda column: best[column]["run_steps_per_second"]  # noqa: E731
    return rate(over) / rate(under) if under in best else None


def _has_jax() -> bool:
    try:
        metadata.version("jax")
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
