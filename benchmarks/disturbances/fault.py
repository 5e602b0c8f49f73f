"""A fault: what it does to a sweep, and what it reports."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from disturbances.subject import Subject


@dataclass
class Report:
    """What a fault did.

    Arguments:
        done: in words. times: how often. also: what had to hold while it was done, beside what must hold after every
            fault.
    """

    done: str
    times: int
    also: dict[str, bool] = field(default_factory=dict)

    def check(self, fact: str, holds: bool) -> None:
        """Note a fact; one that was false once stays false."""
        self.also[fact] = self.also.get(fact, True) and holds


class NotHere(Exception):
    """This system does not let us do that; the message says why."""


# Disturbs a sweep, whose driver is gone afterwards, and remembers what was finished on the way.
Befall = Callable[[Subject, random.Random], Report]
