"""Time the packed trainer against a plain loop, `torch.func` and JAX (`make bench`).

All programs are timed in rounds, one after the other, so that other load on the machine affects all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from contestants import Row
from timing import PLAIN, Workers

ROWS = (Row(32, 16, 64, 40), Row(128, 16, 64, 40), Row(128, 128, 32, 40), Row(512, 32, 16, 784), Row(512, 128, 16, 784))
RESULTS = Path(__file__).parent / "results"

# Columns of the table. Each has a label and variants: a program, its number of processes and threads per process. The
# fastest variant counts.
COLUMNS: dict[str, tuple[str, list[tuple[str, int, int]]]] = {
    "plain": ("plain loop", [(kind, 1, threads) for kind in PLAIN for threads in (1, 2)]),
    "plain_two": ("two plain loops at once", [(kind, 2, 1) for kind in PLAIN]),
    "trainer": ("whole trainer", [("trainer", 1, 2), ("trainer", 2, 1)]),
    "kernel": ("bare kernel", [("kernel", 1, 2), ("kernel", 2, 1)]),
    "func": ("torch.func vmap", [("func", 1, 2), ("func", 2, 1)]),
    "jax": ("JAX vmap+scan", [("jax", 1, 2)]),
}


def main() -> None:
    """Time every row and write speed.json and speed.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds; the median counts")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each program in each round")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    # The threads of one program wait for each other. On a busy machine they stall, and the ratios are misleading.
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
    """Time all programs on a row.

    Args:
        workers: Processes that run the programs.
        row: The networks.
        rounds: Number of rounds.
        seconds: Time for each program in each round, in seconds.

    Returns:
        Median run-steps per second of each program, the GEMM peak in operations per second, the fastest variant of
        each column, and the ratios between columns.
    """
    programs = sorted({program for _, group in COLUMNS.values() for program in group})
    if not _has_jax():
        programs = [program for program in programs if program[0] != "jax"]
    samples: dict[tuple[str, int, int], list[float]] = {program: [] for program in programs}
    peaks = []
    workers.start_row()
    for program in programs:
        workers.rate(program, row, 0.0)  # builds the networks and compiles
    for _ in range(rounds):
        peaks.append(workers.gemm_peak())
        for program in programs:
            samples[program].append(workers.rate(program, row, seconds))
    medians = {program: statistics.median(values) for program, values in samples.items()}
    best: dict[str, Any] = {}
    for column, (_, group) in COLUMNS.items():
        timed = [program for program in group if program in medians]
        if timed:
            fastest = max(timed, key=medians.__getitem__)
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
    """Describe the machine and the versions."""
    versions = {name: metadata.version(name) for name in ("torch", "numpy", *(("jax",) if _has_jax() else ()))}
    features = torch.backends.cpu.get_cpu_capability()
    return {"cores": torch.get_num_threads(), "cpu": platform.machine(), "vectors": features, **versions} | {
        "python": platform.python_version()
    }


def as_markdown(record: dict[str, Any]) -> str:
    """Format the page `speed.md`."""
    lines = [
        "# Speed",
        "",
        "Machine: " + ", ".join(f"{name} {value}" for name, value in record["machine"].items()) + ".",
        "",
    ]
    lines += [
        "Training steps per second, summed over runs (run-steps/s): two hidden layers, 10 outputs, 4000 examples,",
        f"float32. Medians of {record['rounds']} rounds in which all programs were timed one after the other. Each",
        "cell shows the variant with the highest median; `p×t` means p processes at once with t threads each (a sweep",
        "runs one process on each core).",
        "",
        "- plain loop: `nn.Sequential`, autograd, `torch.optim.SGD`, indices drawn in advance, no `.item()`; the",
        "  fastest of single, foreach and fused, with 1 or 2 threads.",
        "- whole trainer: `PackTrainer.advance` with sampling and the check for divergence, without evaluation.",
        "- bare kernel: gradients and update on a fixed batch. torch.func: the same with the generic kernel.",
        "- share of GEMM peak: the operations of the step's matrix products (no gradient of the inputs) relative to",
        "  2048³ float32 products (the better of one on 2 threads and one on each core), timed in the same rounds.",
        "",
    ]
    columns = [column for column in COLUMNS if all(column in row["best"] for row in record["rows"])]
    lines.append(
        "| width, batch, runs, inputs | "
        + " | ".join(COLUMNS[column][0] for column in columns)
        + " | GEMM peak, GFLOP/s |"
    )
    lines.append("|---" * (len(columns) + 2) + "|")
    for row in record["rows"]:
        cells = [
            f"{row['best'][column]['run_steps_per_second']:,.0f} ({row['best'][column]['program']})"
            for column in columns
        ]
        lines.append(f"| {_name(row)} | " + " | ".join(cells) + f" | {row['gemm_peak'] / 1e9:.0f} |")
    names = list(record["rows"][0]["ratios"])
    lines += ["", "| width, batch, runs, inputs | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in record["rows"]:
        lines.append(f"| {_name(row)} | " + " | ".join(_number(row["ratios"][name]) for name in names) + " |")
    if "jax" not in columns:
        lines += ["", "JAX was not installed, so its column is missing (`make bench` installs it)."]
    return "\n".join(lines) + "\n"


def _name(row: dict[str, Any]) -> str:
    return f"{row['width']}, {row['batch']}, {row['runs']}, {row['inputs']}"


def _number(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"


def _ratio(best: dict[str, Any], numerator: str, denominator: str) -> float | None:
    if denominator not in best:
        return None
    return float(best[numerator]["run_steps_per_second"] / best[denominator]["run_steps_per_second"])


def _has_jax() -> bool:
    try:
        metadata.version("jax")
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
