"""Damaged folders of studies: commands give the same answers or refuse the folder, and a sweep repairs what it can."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import FileDamage, file_damages
from hostile import OPCODES
from hypothesis import strategies as st
from running import MARK, Answer, run, sizes, try_many
from studies import IntactStudy, answer_of, results_of
from surroundings import unchanged

# The files that commands read; the report also reads the times. Damage to other files does not change any answer.
READ = ("spec.json", "plan.jsonl", "failures", "shards", "data.json", "model.json")


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
            with unchanged(Path(), ("damaged", "exported")):
                answer = answer_of(name)
            commands[name](answer, damages)
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
def test_commands_that_readresults_of(count: int, intact: IntactStudy) -> None:
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
            assert results_of(Path("damaged")) == intact.results
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
            answer = answer_of(name)
            assert answer.refused or answer.code in ((0, 1) if name == "status" else (0,)), answer
        assert not Path(MARK).exists()
    finally:
        shutil.rmtree("damaged")
