"""One case: a command in this process, within a time limit, and what it may answer. And how many cases there are."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from noisescale.cli import main

# Cases of the plain form, by test; `--full` tries three times as many instead.
CASES = {
    "spec": 400, "spec text": 300, "spec override": 200, "spec run": 8, "command line": 300,
    "batch": 130, "batch pickle": 150, "archive": 100, "idx": 140, "cache": 50,
    "arrays": 200, "array file": 110, "weights": 100, "measured weights": 3,
    "read": 70, "state": 70, "report": 24, "continued": 20,
}  # fmt: skip
FULL = 3

# Far above what any case takes, also on a machine that is busy with something else.
SECONDS = 60.0

# What hostile files would make in the working folder if anything in them were executed.
MARK = "executed"

Case = TypeVar("Case")


class Hang(BaseException):
    """A case that took too long; no `except Exception` may swallow it."""


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def refused(self) -> bool:
        """Whether the input was refused, in which case it must be so as the contract says."""
        if self.code != 2:
            return False
        lines = self.err.splitlines()
        assert lines and all(line.startswith("noisescale: ") for line in lines if line in (lines[0], lines[-1])), lines
        # A note of what is missing may stand above the message.
        assert len(lines) <= 3 and len(lines[-1]) > len("noisescale: "), lines
        return True


def run(*arguments: str) -> Answer:
    """A command in this process: anything but an exit code is an error of the test."""
    out, err = io.StringIO(), io.StringIO()
    with time_limit(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    assert "Traceback" not in err.getvalue() + out.getvalue()
    return Answer(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raise where a case takes longer than `SECONDS`."""

    def late(number: int, frame: FrameType | None) -> None:
        raise Hang(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def sizes(name: str) -> pytest.MarkDecorator:
    """Parametrizes `count`: the cases of the plain form, and of the long one."""
    short = pytest.param(CASES[name], marks=pytest.mark.short)
    return pytest.mark.parametrize("count", [short, pytest.param(FULL * CASES[name], marks=pytest.mark.full)])


def try_many(count: int, cases: st.SearchStrategy[Case], check: Callable[[Case], None]) -> None:
    """Check so many cases, and that there were so many: a strategy may run out of different ones."""
    seen = 0

    def counted(case: Case) -> None:
        nonlocal seen
        seen += 1
        check(case)

    # Cases are small as they are drawn, and some take seconds: a failing one is shown, not made smaller.
    wanted = settings(max_examples=count, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    wanted(given(cases)(counted))()
    assert seen >= count
