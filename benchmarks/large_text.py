"""Train on a text that is larger than the memory (`make large-text`).

A file of 4 GB is written, and swept in processes whose anonymous memory is limited to 2 GB (RLIMIT_DATA). The page
shows the largest memory, and from which parts of the file the batches were drawn.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from noisescale.datasets import DatasetOptions, load_dataset
from noisescale.sweeps import SweepSpec
from noisescale.training.sampling import index_block

RESULTS = Path(__file__).parent / "results" / "large_text.md"
LIMIT = 2 * 2**30
SPEC = """
name = "large-text"
seeds = 2
[dataset]
name = "text"
path = "{path}"
context = 256
test_size = 64
[model]
family = "transformer"
[grid]
width = [8]
learning_rate = [0.1, 0.2]
batch_size = [16]
[training]
steps = 300
evaluations = 4
[fit]
metric = "loss"
extend_edges = false
[stability]
seeds = 0
"""


def main() -> None:
    """Write the file, sweep, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    gigabytes = parser.parse_args().gigabytes
    with tempfile.TemporaryDirectory() as folder:
        text, spec = Path(folder, "text.txt"), Path(folder, "spec.toml")
        write_text(text, int(gigabytes * 10**9))
        spec.write_text(SPEC.format(path=text), encoding="utf-8")
        began = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "noisescale",
            "sweep",
            str(spec),
            "--out",
            str(Path(folder, "out")),
            "--jobs",
            "1",
        ]
        watched = subprocess.Popen(command, preexec_fn=limit_memory)
        largest = 0
        while watched.poll() is None:
            largest = max(largest, *(anonymous_memory(pid) for pid in descendants(watched.pid)))
            time.sleep(0.2)
        if watched.returncode:
            raise SystemExit(f"the sweep failed with exit status {watched.returncode}")
        seconds = time.monotonic() - began
        drawn = parts_of_the_file(spec, text)
        losses = runs_of(spec, Path(folder, "out"))
    RESULTS.write_text(page(gigabytes, largest, seconds, drawn, losses), encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


def write_text(path: Path, size: int) -> None:
    """Write random words of ASCII letters."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz ", dtype=np.uint8)
    generator, block = np.random.default_rng(0), 2**26
    with path.open("wb") as file:
        for start in range(0, size, block):
            file.write(
                letters[generator.integers(len(letters), size=min(block, size - start), dtype=np.uint8)].tobytes()
            )


def limit_memory() -> None:
    """Limit the anonymous memory of this process and of those that it starts."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))


def descendants(pid: int) -> list[int]:
    """Return a process and all that it has started."""
    processes = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            processes += [other for child in path.read_text().split() for other in descendants(int(child))]
        except OSError:
            continue
    return processes


def anonymous_memory(pid: int) -> int:
    """Return the anonymous memory of a process in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def parts_of_the_file(spec: Path, text: Path) -> list[int]:
    """Return how many examples of the first run came from each tenth of the training part."""
    stated = SweepSpec.from_toml(spec)
    options = DatasetOptions("text", path=str(text), context=stated.dataset.context, test_size=stated.dataset.test_size)
    examples = len(load_dataset(options).x_train)
    order = index_block(stated.training.sampling, [0], 0, examples, stated.grid.batch_size[0])[0]
    used = order[: stated.training.steps * stated.grid.batch_size[0]]  # type: ignore[operator]
    return torch.histc(used.double(), 10, 0, examples).long().tolist()  # type: ignore[no-any-return]


def runs_of(spec: Path, out: Path) -> list[float]:
    """Return the final test losses."""
    from noisescale import Study

    return [round(float(loss), 3) for loss in Study.open(out).runs().final_test_loss]


def page(gigabytes: float, largest: int, seconds: float, drawn: list[int], losses: list[float]) -> str:
    """Return the page."""
    lines = ["# A text larger than the memory", "", *(__doc__ or "").strip().splitlines(), ""]
    rows = {
        "size of the file (GB)": f"{gigabytes:g}",
        "limit of anonymous memory (GB)": f"{LIMIT / 10**9:.2f}",
        "largest anonymous memory of a process (GB)": f"{largest / 10**9:.2f}",
        "time of the sweep (s)": f"{seconds:.0f}",
        "examples from each tenth of the training part": ", ".join(map(str, drawn)),
        "final test losses (nats; 3.296 is the entropy)": ", ".join(map(str, losses)),
    }
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
