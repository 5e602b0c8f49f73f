"""Signals that ask the process to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from noisescale.cli.exit_codes import INTERRUPTED


@contextmanager
def interrupts() -> Iterator[None]:
    """Handle signals that ask the process to end: raise at the first, ignore the second, and exit at the third.

    The second signal is ignored because it may arrive during the cleanup.
    """
    signals = 0
    hard_exit = os._exit

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            raise KeyboardInterrupt
        if signals > 2:
            hard_exit(INTERRUPTED)

    # A shell starts background jobs with interrupts ignored. They stay ignored.
    handled = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    old_handlers = [(number, signal.signal(number, handle)) for number in handled]
    try:
        yield
    finally:
        for number, handler in old_handlers:
            # After a signal, ignore further signals. The interpreter removes handlers as it ends, but keeps SIG_IGN.
            signal.signal(number, signal.SIG_IGN if signals else handler)
