"""The interface of a fault, and its report."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from disturbances.subject import Subject


@dataclass
class Report:
    """The report of a fault, with the checks during the fault.

    Args:
        description: Description of the fault.
        times: Number of times that the fault happened.
        checks: Facts that must hold during the fault, in addition to the facts of `Aftermath`, with their results.
    """

    description: str
    times: int
    checks: dict[str, bool] = field(default_factory=dict)

    def check(self, fact: str, holds: bool) -> None:
        """Record whether a fact holds. If it fails once, it counts as failed."""
        self.checks[fact] = self.checks.get(fact, True) and holds


class NotPossible(Exception):
    """The fault is not possible on this system. The message gives the reason."""


# A fault disturbs a sweep and records the shards that are finished before. At its end, no driver is running.
Fault = Callable[[Subject, random.Random], Report]
