"""Running one case, a command in this process with a time limit; and the number of cases of each test."""

from __future__ import annotations

import contextlib
import io
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from noisescale.cli import main

# Number of cases by test in the short form. `--full` tries three times as many, or as many as `LONG` says.
CASES = {
    "spec": 300, "spec text": 250, "spec override": 200, "spec run": 6, "command line": 250,
    "spec of tokens": 100, "tokens run": 12,
    "batch": 130, "batch pickle": 150, "archive": 100, "idx": 140, "cache": 50,
    "arrays": 200, "array file": 110, "weights": 100, "measured weights": 3,
    "read": 50, "state": 50, "report": 24, "continued": 20, "hostile": 8,
}  # fmt: skip
FULL = 3
LONG = {"hostile": 200}

# Lines that `measure` prints before its table: what follows, and each quantity when it is done.
_PROGRESS = re.compile(r"next: |.* ± |.* \(\d+\.\d s\)$")

# Time limit of a case, in seconds, far above the time of any case on a busy machine.
SECONDS = 60.0

# The name of the file or folder that hostile files create in the working folder if anything in them is executed.
MARK = "executed"

Case = TypeVar("Case")


class Hang(BaseException):
    """A case exceeded its time limit. It is not an `Exception`, so that no handler catches it."""


@dataclass(frozen=True)
class Answer:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def refused(self) -> bool:
        """True if the command refused its input. Its messages must then follow the contract."""
        if self.code != 2:
            return False
        # A measurement may have begun, and says what it does.
        lines = [line for line in self.err.splitlines() if not _PROGRESS.match(line)]
        assert lines and all(line.startswith("noisescale: ") for line in lines if line in (lines[0], lines[-1])), lines
        # A warning about an unfinished sweep may precede the message.
        assert len(lines) <= 3 and len(lines[-1]) > len("noisescale: "), lines
        return True


def run(*arguments: str) -> Answer:
    """Run a command in this process. Anything but an exit code fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with time_limit(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    assert "Traceback" not in err.getvalue() + out.getvalue()
    return Answer(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raise `Hang` if a case takes longer than `SECONDS`."""

    def expire(number: int, frame: FrameType | None) -> None:
        raise Hang(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, expire)
    # Again every second, because the containment of user code catches an exception of any class.
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def sizes(name: str) -> pytest.MarkDecorator:
    """Parametrize `count` with the number of cases in the short and the long form."""
    short, long = pytest.param(CASES[name], marks=pytest.mark.short), LONG.get(name, FULL * CASES[name])
    return pytest.mark.parametrize("count", [short, pytest.param(long, marks=pytest.mark.full)])


def try_many(count: int, cases: st.SearchStrategy[Case], check: Callable[[Case], None], part: int = 0) -> int:
    """Check this many cases, and that a strategy did not run out of different cases.

    Args:
        count: Number of cases.
        cases: The strategy.
        check: The check of a case.
        part: Parts of one test with different numbers try different cases.

    Returns:
        The number of tried cases.
    """
    seen = 0

    def counted(case: Case) -> None:
        nonlocal seen
        seen += 1
        check(case)

    # Cases are small, and some take seconds, so a failing case is shown without being reduced.
    generate_only = settings(max_examples=count, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    test = given(cases)(counted)
    generate_only(seed(part)(test) if part else test)()
    assert seen >= count
    return seen
