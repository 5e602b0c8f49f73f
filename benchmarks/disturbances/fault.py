"""The interface of a fault, and its report."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from disturbances.subject import Subject


@dataclass
class Report:
    """What a fault did, and what was checked meanwhile.

    Args:
        description: What was done, in words.
        times: How often it was done.
        checks: Facts that had to hold during the fault, beside those of `Aftermath`.
    """

    description: str
    times: int
    checks: dict[str, bool] = field(default_factory=dict)

    def check(self, fact: str, holds: bool) -> None:
        """Record a fact. A fact that failed once stays failed."""
        self.checks[fact] = self.checks.get(fact, True) and holds


class NotPossible(Exception):
    """The fault is not possible on this system; the message says why."""


# Disturbs a sweep and records the finished shards on the way. Afterwards no driver is running.
Fault = Callable[[Subject, random.Random], Report]
