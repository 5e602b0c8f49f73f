"""What must hold after every fault: nothing lost, nothing twice, it completes, its runs equal undisturbed ones."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from disturbances.subject import Subject
from noisescale.store import Study
from noisescale.store.findings import findings
from noisescale.sweeps.plan import Plan


@dataclass(frozen=True)
class Aftermath:
    """What held when all was over.

    Arguments:
        finished: shards that were seen finished before a fault. kept: each of them is unchanged to the bit.
        once: every planned run is in exactly one shard. completes: the same command ends with exit code 0 and leaves no
        temporary file. equal: runs and curves equal those of a sweep that nobody disturbed, to the last digit.
        runs: how many they are.
    """

    finished: int
    kept: bool
    once: bool
    completes: bool
    equal: bool
    runs: int

    @property
    def good(self) -> bool:
        return self.kept and self.once and self.completes and self.equal


class Undisturbed:
    """Sweeps with the plans of disturbed ones, left alone.

    A pack is the same in every sweep that plans it, so that each is trained once for all of them.

    Arguments:
        folder: for these sweeps.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards: dict[str, Path] = {}
        self._count = 0

    def like(self, subject: Subject) -> Path | None:
        """The folder of a sweep with the subject's plan; None where it did not complete."""
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
    """Run the disturbed sweep to its end with the command that began it, and look at all it holds."""
    finished = len(subject.finished)
    subject.remember()
    code = subject.complete().code
    kept = subject.finished.items() <= subject.shards().items()
    ids, planned = run_ids(subject.out), planned_ids(subject.out)
    other = undisturbed.like(subject)
    return Aftermath(
        finished=finished,
        kept=kept,
        once=sorted(ids) == sorted(planned),
        completes=code == 0 and not subject.leftovers(),
        equal=other is not None and same(subject.out, other),
        runs=len(ids),
    )


def run_ids(out: Path) -> list[str]:
    """The run ids of all shards, as often as they are there."""
    shards = sorted((out / "shards").glob("*.parquet"))
    return [run_id for path in shards for run_id in pd.read_parquet(path, columns=["run_id"]).run_id]


def planned_ids(out: Path) -> list[str]:
    """The run ids that the plan of a finished sweep holds."""
    return [run.run_id for pack in Plan(out / "plan.jsonl").packs.values() for run in pack.runs]


def same(out: Path, other: Path) -> bool:
    """Whether two sweeps found the same for every run and at every evaluation."""
    one, two = Study.open(out), Study.open(other)
    return findings(one.runs()).equals(findings(two.runs())) and _curves(one).equals(_curves(two))


def _curves(study: Study) -> pd.DataFrame:
    return study.curves().sort_values(["run_id", "step"], ignore_index=True)
