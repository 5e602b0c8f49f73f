"""An intact study with every kind of file that a sweep may leave, and the commands that read it or continue it."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from running import Answer, run

from noisescale.store import Failure, Study, compact
from noisescale.sweeps import Grid, SweepSpec
from noisescale.sweeps.jobs import Job
from noisescale.sweeps.kernel_record import KernelRecord
from noisescale.sweeps.plan import Plan
from noisescale.sweeps.train_pack import train_pack

# Four packs of three runs.
CHANGES = (("seeds = 2", "seeds = 3"), ("batch_size = [10]", "batch_size = [5, 10, 20, 30]"), ("[0.5, 1.0]", "[1.0]"))
COMMANDS: dict[str, tuple[str, ...]] = {
    "status": ("status", "damaged"),
    "status --json": ("status", "damaged", "--json"),
    "fit": ("fit", "damaged", "--json"),
    "recommend": ("recommend", "damaged", "--width", "8", "--json"),
    "csv": ("export", "damaged", "--to", "csv", "--out", "exported"),
    "parquet": ("export", "damaged", "--to", "parquet", "--out", "exported"),
    "report": ("report", "damaged"),
    "sweep": ("sweep", "tiny.toml", "--out", "damaged", "--jobs", "1"),
    "dry run": ("sweep", "tiny.toml", "--out", "damaged", "--dry-run"),
}


@dataclass(frozen=True)
class IntactStudy:
    """The folder of a study with every kind of file that a sweep may leave.

    Args:
        folder: The folder.
        files: Paths of the files and folders to damage.
        answers: The answer of each command.
        results: The late-time test loss by run id.
    """

    folder: Path
    files: list[str]
    answers: dict[str, Answer]
    results: dict[str, float]


def build_study(fuzz_folder: Path, small_spec: str) -> IntactStudy:
    """Build a study of four packs: two in a joined shard, one in a single shard, and one without a shard.

    The last pack has a record of a failure, a checkpoint, and a record of its kernel.

    Args:
        fuzz_folder: The working folder of all cases.
        small_spec: The text of a spec that trains in a second.
    """
    before = Path.cwd()
    os.chdir(fuzz_folder)
    for old, new in CHANGES:
        assert small_spec.count(old) == 1
        small_spec = small_spec.replace(old, new)
    Path("tiny.toml").write_text(small_spec)
    assert run("sweep", "tiny.toml", "--out", "intact", "--jobs", "1").code == 0
    folder = Path("intact")
    *_, single, last = sorted((folder / "shards").iterdir())
    single.rename("single")
    last.rename("last")
    assert compact(folder / "shards", max_single=0) == 2
    Path("single").rename(single)
    Path("last").rename(last)
    results = results_of(folder)
    spec = SweepSpec.from_toml("tiny.toml")
    pack = Plan(folder / "plan.jsonl").packs[last.stem]
    (folder / "shards" / f"{pack.pack_id}.parquet").unlink()
    KernelRecord(folder / "kernels", "cpu", 1).store(pack.runs[0], "explicit 3")
    job = Job(
        pack, spec.dataset.options(0.0), folder / "shards", folder / "kernels", folder / "checkpoints", "cpu", False
    )
    assert train_pack(replace(job, deadline=time.monotonic())).paused
    (folder / "failures" / f"{pack.pack_id}.json").write_text(Failure("E: <b>", pack.runs).text())
    assert Grid(spec).runs()
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    shutil.copytree(folder, "damaged")
    answers = {name: answer_of(name) for name in COMMANDS if name != "sweep"}
    shutil.rmtree("damaged")
    os.chdir(before)
    return IntactStudy(
        fuzz_folder / "intact", [*files, "shards", "failures", "checkpoints", "kernels"], answers, results
    )


def results_of(folder: Path) -> dict[str, float]:
    """Return the late-time test loss by run id."""
    runs = Study.open(folder).finished()
    return dict(zip(runs.run_id, runs.test_loss, strict=True))


def answer_of(name: str) -> Answer:
    """Run a command of `COMMANDS` in the working folder, and remove what it exports."""
    shutil.rmtree("exported", ignore_errors=True)
    try:
        return run(*COMMANDS[name])
    finally:
        shutil.rmtree("exported", ignore_errors=True)
