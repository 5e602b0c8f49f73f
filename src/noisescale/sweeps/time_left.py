"""The time that the unfinished packs (runs that train together) still take, from the pace of those that were seen."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from noisescale.sweeps.plan import Pack


@dataclass
class _Seen:
    """A pack in training, as this process sees it.

    Args:
        began: When it was first seen, in seconds.
        before: Fraction of its steps that earlier sweeps did.
        now: Fraction of its steps that is done.
        reported: When that fraction last changed, in seconds.
        first: The time and the fraction of the first report of a step. Before it, the pack chose its kernel.
    """

    began: float
    before: float
    now: float
    reported: float
    first: tuple[float, float] | None = None

    @property
    def rest(self) -> float | None:
        """Seconds from the last report to the end of the pack, at the pace between two reports; None before the second.

        A pack that is trained in two halves starts again, so that its fraction may fall.
        """
        if self.first is None or self.now <= self.first[1]:
            return None
        return (1 - self.now) * (self.reported - self.first[0]) / (self.now - self.first[1])


class TimeLeft:
    """Estimates the time left.

    A pack in training goes on at its pace. A waiting pack takes its planned time, multiplied by what packs of its width
    took longer than planned, or else all packs. Workers take the waiting packs in their order.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Pack] = {}
        self._seen: dict[str, tuple[Pack, _Seen]] = {}
        # Measured and planned seconds of the finished packs, by width.
        self._finished: dict[int | None, tuple[float, float]] = {}
        self._workers = 1

    def add(self, packs: Iterable[Pack]) -> None:
        """Add packs that will be trained, in this order."""
        self._waiting |= {pack.pack_id: pack for pack in packs}

    def see(self, shares: Mapping[str, tuple[float, float]]) -> None:
        """Note the progress of packs in training.

        Args:
            shares: Two fractions of the steps of each pack, by its id: those of earlier sweeps, and all that are done.
        """
        now = time.monotonic()
        for name, (before, done) in shares.items():
            if name in self._waiting:
                self._seen[name] = self._waiting.pop(name), _Seen(now, before, done, now)
            elif name in self._seen and done != self._seen[name][1].now:
                seen = self._seen[name][1]
                seen.before, seen.now, seen.reported = before, done, now
                seen.first = seen.first or (now, done)
        self._workers = max(self._workers, len(self._seen))

    def finish(self, pack: Pack, seconds: float) -> None:
        """Note that a pack is done.

        Args:
            pack: The pack.
            seconds: The time of its training, if the pack was too short to be seen.
        """
        self._waiting.pop(pack.pack_id, None)
        _, seen = self._seen.pop(pack.pack_id, (pack, None))
        if seen is not None:
            seconds = time.monotonic() - seen.began
        measured, planned = self._finished.get(_width(pack), (0.0, 0.0))
        share = 1.0 - (seen.before if seen is not None else 0.0)
        self._finished[_width(pack)] = measured + seconds, planned + share * pack.seconds

    def seconds(self) -> float | None:
        """Return the time left in seconds; None while a pack trains of which no pace is known, nor one of its width."""
        now = time.monotonic()
        pace = dict(self._finished)
        for pack, seen in self._seen.values():
            if seen.rest is not None:
                whole = seen.reported - seen.began + seen.rest
                measured, planned = pace.get(_width(pack), (0.0, 0.0))
                pace[_width(pack)] = measured + whole, planned + (1 - seen.before) * pack.seconds
        if not pace:
            return 0.0 if not (self._waiting or self._seen) else None
        free = []
        for pack, seen in self._seen.values():
            if seen.rest is not None:
                free.append(max(0.0, seen.rest - (now - seen.reported)))
            elif _width(pack) in pace:
                free.append(max(0.0, (1 - seen.before) * _expected(pack, pace) - (now - seen.began)))
            else:
                return None
        free += [0.0] * (self._workers - len(free))
        heapq.heapify(free)
        for pack in self._waiting.values():
            heapq.heappush(free, heapq.heappop(free) + _expected(pack, pace))
        return max(free)


def _expected(pack: Pack, pace: Mapping[int | None, tuple[float, float]]) -> float:
    measured, planned = pace.get(_width(pack), (0.0, 0.0))
    if not planned:
        measured, planned = (sum(part[place] for part in pace.values()) for place in (0, 1))
    return pack.seconds * measured / planned


def _width(pack: Pack) -> int | None:
    return pack.runs[0].width if pack.runs else None
