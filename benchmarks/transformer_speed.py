"""Time packs of transformers against a plain loop (`make bench`).

Sixteen runs of a transformer of two blocks are trained by SGD on tokens of sixteen kinds: by the whole trainer, with
the kernel and the number of runs at once that it chooses by measurement, and by a plain loop of torch, one run after
another. Both have one thread, and are timed in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from noisescale.datasets import DatasetOptions, load_dataset
from noisescale.families import ModelOptions, family_factory
from noisescale.runs import Run
from noisescale.sweeps import SweepSpec
from noisescale.training import PackTrainer

RESULTS = Path(__file__).parent / "results" / "transformer_speed.md"
WIDTHS, KINDS, RUNS = (16, 32, 64), 16, 16
# Context and batch size, and the smallest ratios that a change must keep at the widths.
ROWS = {(16, 4): (5.0, 3.0, 1.5), (16, 16): (2.0, 1.5, 1.1), (64, 8): (1.3, 1.1, None)}
# Steps of the trainer between two looks at the clock.
STEPS = 20


def main() -> None:
    """Measure every row, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    lines = ["# Transformers", "", *(__doc__ or "").strip().splitlines(), ""]
    lines += [
        "| context | batch | width | plain loop, µs per step | trainer, µs per step and run | ratio | floor | kernel |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for (context, batch), floors in ROWS.items():
        for width, floor in zip(WIDTHS, floors, strict=True):
            plain, packed, kernel = measure(context, batch, width, rounds)
            bound = "—" if floor is None else f"{floor:g}"
            numbers = f"{1e6 * plain:.0f} | {1e6 * packed:.0f} | {plain / packed:.1f} | {bound}"
            lines.append(f"| {context} | {batch} | {width} | {numbers} | {kernel} |")
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(context: int, batch: int, width: int, rounds: int) -> tuple[float, float, str]:
    """Return the median times of the plain loop and of the trainer, in seconds per run and step, and the kernel.

    Args:
        context: Number of tokens of an example.
        batch: Number of examples of a batch.
        width: Width of the transformer.
        rounds: Number of rounds.
    """
    data = load_dataset(
        DatasetOptions("language", train_size=1024, test_size=16, context=context, vocabulary=KINDS, order=1)
    )
    options = ModelOptions("transformer", depth=2)
    runs = runs_of(context, batch, width)
    trainer = PackTrainer(runs, data, family_factory(options), reference_width=2 * width)
    model = family_factory(options)(width, data.input_shape, data.num_classes).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    trainer.advance(STEPS)
    plain, packed = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        for step in range(2 * STEPS):
            index = torch.arange(batch) + step * batch % (1024 - batch)
            optimizer.zero_grad()
            outputs = model(data.x_train[index].long())
            nn.functional.cross_entropy(outputs.flatten(0, 1), data.y_train[index].long().flatten()).backward()
            optimizer.step()
        plain.append((time.perf_counter() - began) / (2 * STEPS))
        began = time.perf_counter()
        trainer.advance(trainer.state.step + STEPS)
        packed.append((time.perf_counter() - began) / (STEPS * RUNS))
    return statistics.median(plain), statistics.median(packed), trainer.choice


def runs_of(context: int, batch: int, width: int) -> list[Run]:
    """Return the runs of a pack, which differ in their seed."""
    spec = {
        "name": "speed",
        "seeds": RUNS,
        "dataset": {"name": "language", "train_size": 1024, "test_size": 16, "context": context, "vocabulary": KINDS,
                    "order": 1},
        "model": {"family": "transformer", "depth": 2},
        "grid": {"width": [width], "learning_rate": [0.1], "batch_size": [batch], "parameterization": ["own"]},
        # Far more steps than are taken, so that evaluations do not count.
        "training": {"steps": 1_000_000, "evaluations": 2},
    }  # fmt: skip
    return SweepSpec.from_dict(spec).runs()


if __name__ == "__main__":
    main()
