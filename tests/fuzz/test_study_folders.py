"""Damaged folders of studies: commands give the same answers or refuse the folder, and a sweep repairs what it can."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from damage import FileDamage, file_damages
from hostile import OPCODES
from hypothesis import strategies as st
from running import MARK, Answer, run, sizes, try_many

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
# The files that commands read; the report also reads the times. Damage to other files does not change any answer.
READ = ("spec.json", "plan.jsonl", "failures", "shards", "data.json", "model.json")


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


@pytest.fixture(scope="session")
def intact(fuzz_folder: Path, small_spec: str) -> IntactStudy:
    """Build a study of four packs: two in a joined shard, one in a single shard, and one without a shard.

    The last pack has a record of a failure, a checkpoint, and a record of its kernel.
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
    results = _results(folder)
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
    answers = {name: _run(name) for name in COMMANDS if name != "sweep"}
    shutil.rmtree("damaged")
    os.chdir(before)
    return IntactStudy(
        fuzz_folder / "intact", [*files, "shards", "failures", "checkpoints", "kernels"], answers, results
    )


def _results(folder: Path) -> dict[str, float]:
    runs = Study.open(folder).finished()
    return dict(zip(runs.run_id, runs.test_loss, strict=True))


def _run(name: str) -> Answer:
    shutil.rmtree("exported", ignore_errors=True)
    try:
        return run(*COMMANDS[name])
    finally:
        shutil.rmtree("exported", ignore_errors=True)


def check_with(
    intact: IntactStudy, commands: dict[str, Callable[[Answer, list[FileDamage]], None]]
) -> Callable[..., None]:
    """Return a check of one command on a fresh copy of the folder after some damage."""

    def check(case: tuple[str, list[FileDamage]]) -> None:
        name, damages = case
        shutil.copytree(intact.folder, "damaged")
        try:
            for damage in damages:
                damage.apply(Path("damaged"))
            commands[name](_run(name), damages)
            assert not Path(MARK).exists()
        finally:
            shutil.rmtree("damaged")

    return check


def as_before_or_refused(intact: IntactStudy, name: str) -> Callable[[Answer, list[FileDamage]], None]:
    """Return a check of the answer of one command.

    Without damage to the files that the command reads, the answer must be that of the intact folder. Otherwise it must
    be an exit code of the contract without a traceback.
    """
    read = (*READ, "times.jsonl") if name == "report" else READ
    codes = {0, 1} if name.startswith("status") else {0}

    def check(answer: Answer, damages: list[FileDamage]) -> None:
        if not any(damage.target.startswith(read) for damage in damages):
            assert (answer.code, _timeless(answer.out)) == (
                intact.answers[name].code,
                _timeless(intact.answers[name].out),
            )
        assert answer.refused or answer.code in codes, answer
        touched = [damage for damage in damages if damage.target.startswith(read)]
        only_shards = all(damage.target.startswith("shards/") and damage.contents is not None for damage in touched)
        if touched and only_shards and name in ("fit", "recommend") and not answer.refused:
            # A shard is used only if it is as written.
            assert answer.out == intact.answers[name].out

    return check


def _timeless(out: str) -> list[str]:
    return [line for line in out.splitlines() if "heartbeat_age" not in line]


def cases(intact: IntactStudy, names: list[str]) -> st.SearchStrategy[tuple[str, list[FileDamage]]]:
    return st.tuples(st.sampled_from(names), st.lists(file_damages(intact.files), min_size=1, max_size=2))


def compare(intact: IntactStudy, count: int, names: list[str]) -> None:
    checks = {name: as_before_or_refused(intact, name) for name in names}
    try_many(count, cases(intact, names), check_with(intact, checks))


@sizes("read")
def test_commands_that_read_results(count: int, intact: IntactStudy) -> None:
    compare(intact, count, ["fit", "recommend", "csv", "parquet"])


@sizes("state")
def test_commands_that_read_the_state(count: int, intact: IntactStudy) -> None:
    compare(intact, count, ["status", "status --json", "dry run"])


@sizes("report")
def test_the_report(count: int, intact: IntactStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are left out: they take a second and read no file."""
    monkeypatch.setattr("noisescale.report.write._draw", lambda *arguments: [])
    compare(intact, count, ["report"])


@sizes("continued")
def test_a_sweep_of_a_damaged_folder(count: int, intact: IntactStudy) -> None:
    """The sweep refuses the folder, or all runs have the same results afterwards."""

    def check(answer: Answer, damages: list[FileDamage]) -> None:
        if not answer.refused:
            assert answer.code == 0, answer
            assert _results(Path("damaged")) == intact.results
            assert json.loads(run("status", "damaged", "--json").out)["missing"] == 0

    try_many(count, cases(intact, ["sweep"]), check_with(intact, {"sweep": check}))


@pytest.mark.parametrize("content", OPCODES[:4])
@pytest.mark.parametrize("file", ["checkpoints", "shards", "failures", "kernels"])
def test_a_pickle_in_a_study_is_not_executed(file: str, content: bytes, intact: IntactStudy) -> None:
    shutil.copytree(intact.folder, "damaged")
    try:
        for path in (Path("damaged") / file).iterdir():
            path.write_bytes(content)
        for name in ("status", "fit", "sweep"):
            answer = _run(name)
            assert answer.refused or answer.code in ((0, 1) if name == "status" else (0,)), answer
        assert not Path(MARK).exists()
    finally:
        shutil.rmtree("damaged")
