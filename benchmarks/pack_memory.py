"""Compare the memory that is planned for a pack with the memory that it uses (`make pack-memory`).

Each pack trains for a few steps in a separate process. The growth of the peak memory, from just before the trainer is
built, is compared with `noisescale.sweeps.cost.memory`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from noisescale.datasets import load_dataset
from noisescale.families import ModelOptions, family_factory
from noisescale.parameterizations import reference_width
from noisescale.sweeps import Grid, SweepSpec
from noisescale.sweeps.cost import memory
from noisescale.sweeps.plan import PackLimits, pack_size
from noisescale.sweeps.session import model_sizes
from noisescale.training import PackTrainer

RESULTS = Path(__file__).resolve().parent / "results" / "pack_memory.md"

# Data set, model, width, batch size and number of runs of each case.
CASES: list[tuple[str, dict[str, Any], int, int, int]] = [
    ("mnist1d", {"family": "mlp"}, 64, 16, 100),
    ("mnist1d", {"family": "mlp"}, 64, 512, 100),
    ("mnist1d", {"family": "mlp", "depth": 3}, 256, 64, 40),
    ("mnist1d", {"family": "mlp"}, 2048, 64, 20),
    ("digits", {"family": "convnet", "depth": 2}, 8, 32, 40),
    ("digits", {"family": "convnet", "depth": 2}, 32, 128, 20),
    ("digits", {"family": "resnet", "blocks": [1, 1], "normalization": "batch"}, 8, 32, 20),
    ("digits", {"family": "resnet", "blocks": [1, 1], "normalization": "batch"}, 32, 64, 10),
]


def main() -> int:
    """Measure every case and write the table to `results/pack_memory.md`."""
    if len(sys.argv) > 1:
        print(json.dumps(measured(int(sys.argv[1]))))
        return 0
    lines = [
        "# Memory of packs",
        "",
        "`python benchmarks/pack_memory.py`: float32, ten steps, two evaluations, one process for each row. Planned:",
        "the model of `noisescale.sweeps.cost`, which limits a pack to 1 GiB. Largest pack: runs that this limit",
        "allows.",
        "",
        "| data | model | width | B | runs | planned (MB) | used (MB) | used/planned | largest pack |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for number, (data, model, width, batch, runs) in enumerate(CASES):
        done = subprocess.run([sys.executable, __file__, str(number)], check=True, capture_output=True, text=True)
        planned, used, largest = json.loads(done.stdout)
        name = " ".join(str(value) for value in model.values())
        memory_cells = f"{planned:.0f} | {used:.0f} | {used / planned:.2f} | {largest}"
        lines.append(f"| {data} | {name} | {width} | {batch} | {runs} | {memory_cells} |")
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.write_text(text, encoding="utf-8")
    return 0


def measured(number: int) -> tuple[float, float, int]:
    """Return the planned and the used memory of a case in MB, and the number of runs in the largest planned pack."""
    data, model, width, batch, count = CASES[number]
    spec = SweepSpec.from_dict(
        {
            "name": "memory", "seeds": count, "dataset": {"name": data}, "model": model,
            "grid": {"width": [width], "learning_rate": [0.1], "batch_size": [batch]},
            "training": {"steps": 10, "evaluations": 2}, "stability": {"seeds": 0}, "fit": {"extend_edges": False},
        }
    )  # fmt: skip
    grid = Grid(spec)
    runs, shape = grid.runs(), model_sizes(grid, [width])[width]
    dataset = load_dataset(spec.dataset.options(0.0))
    factory = family_factory(ModelOptions.of_run(runs[0]))
    # Torch allocates some memory only once, whatever the pack.
    PackTrainer(runs[:1], dataset, factory, reference_width=reference_width(width)).advance(until=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer = PackTrainer(runs, dataset, factory, reference_width=reference_width(width))
    trainer.advance()
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6
    many = [runs[0]] * 100_000
    return memory(runs, shape) / 1e6, used, pack_size(many, shape, PackLimits())


if __name__ == "__main__":
    sys.exit(main())
