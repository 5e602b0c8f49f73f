"""Arbitrary specs and command lines give a grid, a correct run, or a message."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

from damage import DAMAGES, Damage
from hypothesis import strategies as st
from running import CASES, MARK, Answer, run, sizes, try_many
from spec_texts import (
    OF_TOKENS,
    RUNNABLE,
    RUNNABLE_OF_TOKENS,
    VALID,
    VALUES,
    Mutation,
    as_toml,
    mutated,
    mutations_of,
    paths,
)

SPEC, OUT = "spec.toml", "spec-out"
DRY = ("sweep", SPEC, "--out", OUT, "--dry-run")


def test_there_are_enough_cases() -> None:
    assert sum(CASES.values()) >= 2000


def test_every_value_is_written_as_toml() -> None:
    awkward = {"a b": [1, 2.5, True, {"c": "\x7f\x00\n\"'\\é"}], "": {"d": {}}}
    assert tomllib.loads(as_toml({**VALID, **awkward})) == {**VALID, **awkward}


def check_accepted_or_refused(answer: Answer) -> None:
    if not answer.refused:
        assert (answer.code, answer.err) == (0, "")
        # The number of runs of the grid comes before anything that takes time.
        grid, runs = answer.out.splitlines()[:2]
        assert grid.startswith("grid ") and runs.startswith("runs ") and not runs.startswith("runs      0 ")
    assert not Path(OUT).exists() and not Path(MARK).exists()


@sizes("spec")
def test_a_mutated_spec(count: int) -> None:
    def check(mutations: list[Mutation]) -> None:
        Path(SPEC).write_text(as_toml(mutated(VALID, mutations)), encoding="utf-8")
        check_accepted_or_refused(run(*DRY))

    try_many(count, mutations_of(VALID), check)


@sizes("spec of tokens")
def test_a_mutated_spec_of_tokens(count: int) -> None:
    def check(mutations: list[Mutation]) -> None:
        Path(SPEC).write_text(as_toml(mutated(OF_TOKENS, mutations)), encoding="utf-8")
        check_accepted_or_refused(run(*DRY))

    try_many(count, mutations_of(OF_TOKENS), check)


TEXTS = st.one_of(
    st.lists(DAMAGES, min_size=1, max_size=3),
    st.binary(max_size=40),
    st.text(max_size=40).map(str.encode),
    st.sampled_from(["a = ", "a.b", "a = {b=", "[[a]]\n"]).map(lambda text: (text * 20_000).encode()),
    st.integers(0, 10_000).map(lambda depth: b"a = " + b"[" * depth + b"]" * depth),
    st.integers(1, 10_000).map(lambda depth: b"name" + b".a" * depth + b" = 1\n"),
)


@sizes("spec text")
def test_a_damaged_or_random_spec(count: int) -> None:
    whole = as_toml(VALID).encode()

    def check(text: bytes | list[Damage]) -> None:
        if isinstance(text, list):
            damaged = whole
            for damage in text:
                damaged = damage.apply(damaged)
            text = damaged
        Path(SPEC).write_bytes(text)
        check_accepted_or_refused(run(*DRY))

    try_many(count, TEXTS, check)


OVERRIDES = st.one_of(
    st.tuples(st.sampled_from(paths(VALID)), VALUES).map(lambda pair: as_toml({"x": pair[1]}).replace('"x"', pair[0])),
    st.tuples(st.sampled_from(paths(VALID)), st.text(max_size=5)).map("=".join),
    st.text(max_size=8),
    st.sampled_from(
        [
            "=",
            "a=",
            "=1",
            ".=1",
            "a..b=1",
            "grid=[]",
            "seeds.x=1",
            "name='../../x'",
            "a." * 5000 + "b=1",
            "name.a" + ".a" * 5000 + "=1",
        ]
    ),
    st.integers(0, 3000).map(lambda depth: "name=" + "[" * depth + "]" * depth),
)


@sizes("spec override")
def test_an_override(count: int) -> None:
    Path(SPEC).write_text(as_toml(VALID), encoding="utf-8")

    def check(override: str) -> None:
        check_accepted_or_refused(run(*DRY, "--set", override.strip("\n")))

    try_many(count, OVERRIDES, check)


WORDS = st.one_of(
    st.sampled_from(
        ["sweep", "status", "fit", "report", "recommend", "measure", "claims", "verify", "export", "--json", "--out",
         "--width", "--to", "--data", "--set", "--jobs", "--device", "--executor", "--max-seconds", "--scale", "csv",
         "0", "-1", "1", "1e400", "nan", "99999999999999999999", "digits", "mnsit", "C9.9", "cpu", "tpu", "nowhere",
         "nowhere/x", "a:b", "os:getcwd", "os:_exit", "", ".", "..", "-", "--", "\u0000", "\udcff", "x" * 5000,
         "--version", "--help", "--batch-size", "--checkpoint", "--examples", "--loss", SPEC, "hinge"]
    ),
    st.text(max_size=6),
)  # fmt: skip


@sizes("command line")
def test_a_command_line(count: int) -> None:
    """These words name no existing study or claim, so no command may write anything."""
    Path(SPEC).write_text("no spec", encoding="utf-8")

    def check(words: list[str]) -> None:
        before = sorted(Path().iterdir())
        answer = run(*words)
        assert answer.refused or answer.code == 0, answer
        assert sorted(Path().iterdir()) == before

    try_many(count, st.lists(WORDS, min_size=1, max_size=6), check)


@sizes("spec run")
def test_a_spec_that_runs(count: int) -> None:
    try_many(count, RUNNABLE, check_run)


@sizes("tokens run")
def test_a_spec_of_tokens_that_runs(count: int) -> None:
    try_many(count, RUNNABLE_OF_TOKENS, check_run)


def check_run(values: dict[str, Any]) -> None:
    """Check that every run has a result afterwards, and that the same command has nothing left to do."""
    Path(SPEC).write_text(as_toml(values), encoding="utf-8")
    arguments = ("sweep", SPEC, "--out", OUT, "--jobs", "1")
    try:
        answer = run(*arguments)
        if answer.refused:
            assert not Path(OUT).exists()
            return
        assert answer.code == 0, answer
        state = json.loads(run("status", OUT, "--json").out)
        widths, seeds = values["grid"]["width"], values["seeds"]
        grid = len(widths) * (seeds if isinstance(seeds, int) else len(seeds))
        assert state["completed"] + state["diverged"] >= grid
        assert (state["missing"], state["failed"]) == (0, {})
        assert "nothing to do" in run(*arguments).err
    finally:
        shutil.rmtree(OUT, ignore_errors=True)
