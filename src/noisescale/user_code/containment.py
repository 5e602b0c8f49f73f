"""Runs code of the user so that it neither ends the process nor changes it for what comes after."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from noisescale.errors import one_line
from noisescale.user_code.process_state import preserved_process

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CodeEnded(Exception):
    """Code of the user tried to end the process, e.g. by `sys.exit`."""


@contextmanager
def contained() -> Iterator[None]:
    """Restore what the code inside changes in the process, and turn its attempts to end the process into errors.

    The code can import modules of the working folder. Restored are the settings of `ProcessState` and the handlers of
    signals. An interrupt from the keyboard passes, also if the code catches it.

    Raises:
        CodeEnded: The code inside called `sys.exit` or `os._exit`, or raised an exception such as `KeyboardInterrupt`
            that would end the process.
    """
    interrupted: list[int] = []
    with preserved_process(), _importable_folder(), _preserved_signals(interrupted), _without_hard_exit():
        try:
            yield
            if interrupted:  # the code has caught the interrupt
                raise KeyboardInterrupt
        except CodeEnded:
            raise
        except SystemExit as error:
            raise CodeEnded(f"the code called sys.exit({'' if error.code is None else repr(error.code)})") from error
        except Exception:
            raise
        except BaseException as error:
            if interrupted:
                raise
            raise CodeEnded(f"the code raised {one_line(error)}") from error


@contextmanager
def _importable_folder() -> Iterator[None]:
    """Let modules of the working folder be imported."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        # What a module adds to the search path while it is imported, it needs later.
        with suppress(ValueError):
            sys.path.remove(folder)


@contextmanager
def _preserved_signals(interrupted: list[int]) -> Iterator[None]:
    """Note each signal before its handler runs, and restore the handlers afterwards."""
    # Only the main thread can set handlers. A handler that was not set from Python is None, and stays.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) is not None}

    def note(number: int, frame: FrameType | None) -> Any:
        interrupted.append(number)
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            return handler(number, frame)
        if handler is signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        return None

    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _without_hard_exit() -> Iterator[None]:
    """Let `os._exit` raise an error in this process. Processes that the code starts may use it."""
    hard_exit, process = os._exit, os.getpid()

    def refuse(status: int) -> NoReturn:
        if os.getpid() != process:
            hard_exit(status)
        raise CodeEnded(f"the code called os._exit({status})")

    os._exit = refuse
    try:
        yield
    finally:
        os._exit = hard_exit
