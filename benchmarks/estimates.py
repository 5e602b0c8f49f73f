"""Compare estimated times with real ones, and two sweeps at once with one after the other (`make estimates`).

Six specs are estimated (`--dry-run`) and swept, alone and beside another sweep. From a tenth of each sweep on, the time
left is compared with the time until its last run was done. Every command is a separate process, with the default number
of workers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parent / "results" / "estimates.md"
# Largest ratio of an estimate to the real time, in either direction, and of two sweeps at once to one after the other.
WITHIN, AT_ONCE = 1.5, 1.3
FROM = 0.1

_BASE = """
name = "{name}"
seeds = {seeds}
[dataset]
name = "digits"
[model]
{model}
[grid]
parameterization = ["own"]
width = {widths}
learning_rate = [0.05, 0.1, 0.2, 0.4]
batch_size = [16, 32]
[training]
steps = {steps}
evaluations = 8
[fit]
extend_edges = false
[stability]
seeds = 0
"""
_OWN = 'family = "estimated_models:{}"'
SPECS = {
    "packed: MLP, widths 16 to 256": ('family = "mlp"', [16, 64, 256], 40_000, 6),
    "packed: convolutions": ('family = "convnet"\ndepth = 2', [4, 8, 16], 4000, 4),
    "packed: batch normalization": ('family = "mlp"\nnormalization = "batch"', [16, 64], 24_000, 6),
    "one's own, packed": (_OWN.format("packed"), [16, 64], 24_000, 6),
    "one's own, looped: branches on a value": (_OWN.format("branching"), [16, 64], 6000, 4),
    "one's own, packed: dropout": (_OWN.format("dropping"), [16, 64], 6000, 4),
}
_MODELS = """
from torch import nn


def packed(width, shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, classes))


def dropping(width, shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, classes))


class Branching(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.first, self.last = nn.Linear(64, width), nn.Linear(width, classes)

    def forward(self, x):
        hidden = self.first(x.flatten(1))
        return self.last(hidden.relu() if hidden.sum().item() > 0 else hidden.tanh())


def branching(width, shape, classes):
    return Branching(width, classes)
"""


def main() -> None:
    """Estimate, sweep, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="parts of the names of specs; the page is not written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("estimated_models.py").write_text(_MODELS, encoding="utf-8")
        rows = []
        for number, (name, (model, widths, steps, seeds)) in enumerate(SPECS.items()):
            text = _BASE.format(name=f"estimated-{number}", model=model, widths=widths, steps=steps, seeds=seeds)
            Path(f"{number}.toml").write_text(text, encoding="utf-8")
            if arguments.only is None or any(part in name for part in arguments.only):
                rows += [measured(name, number, beside=beside) for beside in (False, True)]
                print(pd.DataFrame(rows[-2:]).to_string(), flush=True)
        both = at_once()
        print(both.to_string())
    if arguments.only is None:
        RESULTS.write_text(page(pd.DataFrame(rows), both), encoding="utf-8")


def measured(name: str, number: int, *, beside: bool) -> dict[str, object]:
    """Estimate and sweep one spec.

    Args:
        name: Name of the spec.
        number: Its number.
        beside: Whether another sweep runs at the same time.
    """
    rival = None
    if beside:
        endless = _command("0.toml", f"rival-{number}", "--set", "training.steps=1000000")
        rival = subprocess.Popen(endless, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(15.0)
    try:
        began = time.monotonic()
        lines = subprocess.run(
            _command(f"{number}.toml", "none", "--dry-run"), check=True, capture_output=True, text=True
        ).stdout
        thought = time.monotonic() - began
        estimate = float(re.search(r"^time +about (\d+)", lines, re.MULTILINE)[1])  # type: ignore[index]
        out = Path(f"out-{number}-{beside}")
        began, seen = time.monotonic(), []
        sweep = subprocess.Popen(_command(f"{number}.toml", str(out)), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)  # fmt: skip
        while sweep.poll() is None:
            seen.append((time.monotonic() - began, *_left(out)))
            time.sleep(0.5)
        real = time.monotonic() - began
        # The last run is done before the workers and the driver have ended.
        trained = min((at for at, _, is_done in seen if is_done), default=real)
    finally:
        if rival is not None:
            os.killpg(rival.pid, 9)
            rival.wait()
    later = [left / (trained - at) for at, left, _ in seen if left and FROM * trained <= at <= 0.9 * trained]
    worst = max(later, key=lambda ratio: abs(math.log(ratio)), default=math.nan)
    return {
        "spec": name,
        "beside another sweep": "yes" if beside else "no",
        "dry run (s)": round(thought, 1),
        "estimated (s)": estimate,
        "real (s)": round(real, 1),
        "estimated / real": round(estimate / real, 2),
        "worst time left / real, from a tenth on": round(worst, 2),
        "looks": len(later),
    }


def at_once() -> pd.DataFrame:
    """Sweep the first spec twice, one after the other and at once."""
    times = {}
    for kind in ("one after the other", "at once"):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        sweeps = []
        for copy in range(2):
            command = _command("0.toml", f"{kind}-{copy}".replace(" ", "-"))
            sweeps.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            if kind != "at once":
                sweeps[-1].wait()
        for sweep in sweeps:
            sweep.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        times[kind] = {"wall (s)": time.monotonic() - began, "processor (s)": spent}
    frame = pd.DataFrame(times).T.round(1)
    frame.loc["ratio"] = (frame.loc["at once"] / frame.loc["one after the other"]).round(2)
    return frame


def _command(spec: str, out: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "noisescale", "sweep", spec, "--out", out, *more]


def _left(out: Path) -> tuple[float | None, bool]:
    """Return the time left, and whether every run is done."""
    try:
        values = json.loads((out / "heartbeat.json").read_text())
        return values["seconds_left"], values["done"] == values["total"]
    except (OSError, ValueError, KeyError):
        return None, False


def page(rows: pd.DataFrame, both: pd.DataFrame) -> str:
    """Return the page with both tables."""
    lines = ["# Estimated times", "", *(__doc__ or "").strip().splitlines(), "", _table(rows), ""]
    lines += [f"Estimates should be within a factor of {WITHIN:g}.", "", "## Two sweeps", ""]
    lines += [_table(both.reset_index(names="")), "", f"The ratio should be at most {AT_ONCE:g}.", ""]
    return "\n".join(lines)


def _table(frame: pd.DataFrame) -> str:
    head = ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + "---|" * len(frame.columns)]
    return "\n".join(head + ["| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False)])


if __name__ == "__main__":
    main()
