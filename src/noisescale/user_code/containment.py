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

import torch

from noisescale.errors import one_line

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CodeEnded(Exception):
    """Code of the user tried to end the process, e.g. by `sys.exit`."""


@contextmanager
def contained() -> Iterator[None]:
    """Restore what the code inside changes in the process, and turn its attempts to end the process into errors.

    The code can import modules of the working folder. Restored are the working folder, torch's default precision and
    device, its number of threads, whether it records gradients, its accuracy of products, and the handlers of signals.
    An interrupt from the keyboard passes, also if the code catches it.

    Raises:
        CodeEnded: The code inside called `sys.exit` or `os._exit`, or raised an exception such as `KeyboardInterrupt`
            that would end the process.
    """
    interrupted: list[int] = []
    with _preserved_folder(), _preserved_torch(), _preserved_signals(interrupted), _without_hard_exit():
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
def _preserved_folder() -> Iterator[None]:
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        # What a module adds to the search path while it is imported, it needs later.
        with suppress(ValueError):
            sys.path.remove(folder)
        with suppress(OSError):  # the folder may have been removed
            os.chdir(folder)


@contextmanager
def _preserved_torch() -> Iterator[None]:
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    threads, records = torch.get_num_threads(), torch.is_grad_enabled()
    products, deterministic = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            # Without a default device, tensors are made faster than with the device that would be the default.
            torch.set_default_device(None)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(records)
        torch.set_float32_matmul_precision(products)
        # Setting it loads torch's compiler, which takes a second.
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            torch.use_deterministic_algorithms(deterministic)


@contextmanager
def _preserved_signals(interrupted: list[int]) -> Iterator[None]:
    """Note each signal before its handler runs, and restore the handlers afterwards."""
    # Only the main thread can set handlers. A handler that was not set from Python is None.
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    if threading.current_thread() is not threading.main_thread() or None in handlers.values():
        yield
        return

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
