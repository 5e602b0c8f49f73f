"""Code of users neither ends the process nor changes it for what comes after."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from noisescale.errors import BadInput, one_line, printable
from noisescale.user_code import CodeEnded, contained, import_named


def call(code: Callable[[], Any]) -> Any:
    with contained():
        return code()


def raises(error: BaseException) -> Callable[[], NoReturn]:
    def code() -> NoReturn:
        raise error

    return code


class OddExit(BaseException):
    pass


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (lambda: sys.exit(), r"called sys.exit\(\)"),
        (lambda: sys.exit("no licence"), r"called sys.exit\('no licence'\)"),
        (lambda: os._exit(0), r"called os._exit\(0\)"),
        (raises(KeyboardInterrupt()), "raised KeyboardInterrupt"),
        (raises(GeneratorExit()), "raised GeneratorExit"),
        (raises(OddExit("odd")), "raised OddExit: odd"),
    ],
)
def test_no_code_ends_the_process(code: Callable[[], Any], message: str) -> None:
    with pytest.raises(CodeEnded, match=message):
        call(code)


def test_errors_and_interrupts_of_the_user_pass() -> None:
    with pytest.raises(ZeroDivisionError):
        call(lambda: 1 / 0)
    with pytest.raises(KeyboardInterrupt):
        call(lambda: signal.raise_signal(signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_process_that_the_code_starts_may_end_as_it_likes() -> None:
    context = multiprocessing.get_context("fork")

    def start() -> int | None:
        process = context.Process(target=os._exit, args=(7,))
        process.start()
        process.join()
        return process.exitcode

    assert call(start) == 7


def test_what_the_code_changes_in_the_process_is_restored(tmp_path: Path) -> None:
    def state() -> tuple[Any, ...]:
        return (
            os.getcwd(), torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(),
            torch.is_grad_enabled(), torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled(),
            torch.is_autocast_enabled("cpu"), torch.is_anomaly_enabled(), torch.backends.mkldnn.enabled, np.geterr(),
            signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), os._exit,
        )  # fmt: skip

    def change() -> None:
        os.chdir(tmp_path)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_grad_enabled(False)
        torch.set_float32_matmul_precision("medium")
        torch.use_deterministic_algorithms(True)
        torch.set_autocast_enabled("cpu", True)
        torch.autograd.set_detect_anomaly(True)
        torch.backends.mkldnn.set_flags(False)
        np.seterr(all="raise")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: None)

    before = state()
    call(change)
    assert state() == before
    with pytest.raises(ZeroDivisionError):
        call(lambda: (change(), 1 / 0))
    assert state() == before


def test_modules_of_the_working_folder_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_helper.py").write_text("VALUE = 3")
    (tmp_path / "a_model.py").write_text("def value():\n    from a_helper import VALUE\n    return VALUE")
    (tmp_path / "an_exit.py").write_text("import sys\nsys.exit(0)")
    places = list(sys.path)
    assert call(import_named("a_model:value", "model.family")) == 3
    assert sys.path == places
    for reference, message in (
        ("a_model:absent", "a name 'absent' in module 'a_model'"),
        ("an_exit:value", r"Got: CodeEnded: the code called sys.exit\(0\)"),
        ("no_module:value", "Got: ModuleNotFoundError"),
        ("a_model.py:value", "Got: ModuleNotFoundError"),
        ("a/model:value", 'of the form "package.module:name"'),
    ):
        with pytest.raises(BadInput, match=message):
            import_named(reference, "model.family")
    for name in ("a_helper", "a_model"):
        del sys.modules[name]


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_any_exception_can_be_described_on_one_line() -> None:
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert one_line(KeyError()) == "KeyError"
    assert one_line(NoText()) == "NoText: its text raises RuntimeError"
    assert len(one_line(ValueError("x" * 10_000))) < 700
    assert printable("a\x1b[31mb\tc\u202ed é") == r"a\x1b[31mb\tc\u202ed é"
    assert "whose text raises RuntimeError" in str(BadInput("key", "a value", NoText()))
