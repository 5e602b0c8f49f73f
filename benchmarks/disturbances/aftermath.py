"""Check a sweep after a fault: nothing is lost or doubled, it completes, and its runs equal undisturbed runs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from disturbances.subject import Subject
from noisescale.store import Study, comparable_runs
from noisescale.sweeps.plan import Plan


@dataclass(frozen=True)
class Aftermath:
    """The checks of a sweep after its last fault.

    Args:
        finished: Number of shards that were finished before a fault.
        kept: Whether each of these shards is unchanged, to the bit.
        once: Whether every planned run is in exactly one shard.
        completes: Whether the same command ends with exit code 0 and leaves no temporary file.
        equal: Whether runs and curves equal the runs and curves of an undisturbed sweep, to the last digit.
        runs: Number of runs.
    """

    finished: int
    kept: bool
    once: bool
    completes: bool
    equal: bool
    runs: int

    @property
    def passed(self) -> bool:
        """True if all checks passed."""
        return self.kept and self.once and self.completes and self.equal


class Undisturbed:
    """Undisturbed sweeps with the same plans as the disturbed sweeps.

    A pack gives the same results in every sweep, so it is trained only once.

    Args:
        folder: Folder of these sweeps.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards: dict[str, Path] = {}
        self._count = 0

    def like(self, subject: Subject) -> Path | None:
        """Run a sweep with the subject's plan and return its folder, or None if it did not complete."""
        self._count += 1
        out = self.folder / str(self._count)
        (out / "shards").mkdir(parents=True)
        for name in ("spec.json", "plan.jsonl"):
            shutil.copy(subject.out / name, out / name)
        for pack_id in Plan(out / "plan.jsonl").packs:
            if pack_id in self._shards:
                shutil.copy(self._shards[pack_id], out / "shards")
        if subject.complete(out).code != 0:
            return None
        self._shards.update((path.stem, path) for path in (out / "shards").glob("*.parquet"))
        return out


def aftermath(subject: Subject, undisturbed: Undisturbed) -> Aftermath:
    """Complete the disturbed sweep with the command that started it, and check the sweep."""
    finished = len(subject.finished)
    subject.record_finished()
    code = subject.complete().code
    kept = subject.finished.items() <= subject.shards().items()
    ids, planned = run_ids(subject.out), planned_ids(subject.out)
    reference = undisturbed.like(subject)
    return Aftermath(
        finished=finished,
        kept=kept,
        # Without its plan, a sweep plans only what is missing.
        once=len(set(ids)) == len(ids) and set(planned) <= set(ids),
        completes=code == 0 and not subject.leftovers(),
        equal=reference is not None and same(subject.out, reference),
        runs=len(ids),
    )


def run_ids(out: Path) -> list[str]:
    """List the run ids of all shards, with repetitions."""
    shards = sorted((out / "shards").glob("*.parquet"))
    return [run_id for path in shards for run_id in pd.read_parquet(path, columns=["run_id"]).run_id]


def planned_ids(out: Path) -> list[str]:
    """List the run ids of a plan."""
    return [run.run_id for pack in Plan(out / "plan.jsonl").packs.values() for run in pack.runs]


def same(out: Path, other: Path) -> bool:
    """Return whether two sweeps have the same result for every run and every evaluation."""
    first, second = Study.open(out), Study.open(other)
    runs, others = comparable_runs(first.runs()), comparable_runs(second.runs())
    return runs.equals(others) and _curves(first).equals(_curves(second))


def _curves(study: Study) -> pd.DataFrame:
    return study.curves().sort_values(["run_id", "step"], ignore_index=True)
