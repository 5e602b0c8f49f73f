"""The time that the unfinished packs (runs that train together) still take, from the pace of those that were seen."""

from __future__ import annotations

import heapq
import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.sweeps.plan import Pack

# Weight of the plan against one measured pack. It decides only what the measured packs leave open.
PLAN_WEIGHT = 0.1


@dataclass
class _Seen:
    """A pack in training, as this process sees it.

    Args:
        began: When it was first seen, in seconds.
        before: Fraction of its steps that earlier sweeps did.
        now: Fraction of its steps that is done.
        reported: When that fraction last changed, in seconds.
        is_first: True if no pack of its shape was seen before, so that it chooses the kernel.
        first: The time and the fraction of the first report of a step. Before it, the pack chose its kernel.
    """

    began: float
    before: float
    now: float
    reported: float
    is_first: bool
    first: tuple[float, float] | None = None

    @property
    def whole(self) -> float | None:
        """Seconds that all its steps take, at the pace between two reports; None before the second.

        A pack that is trained in two halves starts again, so that its fraction may fall.
        """
        if self.first is None or self.now <= self.first[1]:
            return None
        return (self.reported - self.first[0]) / (self.now - self.first[1])

    @property
    def preparation(self) -> float:
        """Seconds before the first step, in which the pack chose its kernel."""
        return 0.0 if self.first is None else self.first[0] - self.began


class TimeLeft:
    """Estimates the time left.

    A pack in training goes on at its pace. The time of a waiting pack follows from a fit to the others. Workers take
    the waiting packs in their order. The first pack of a shape also chooses the kernel.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Pack] = {}
        self._seen: dict[str, tuple[Pack, _Seen]] = {}
        # Packs and the seconds that all their steps take.
        self._finished: list[tuple[Pack, float]] = []
        self._preparations: list[float] = []
        self._shapes: set[Hashable] = set()
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
                pack = self._waiting.pop(name)
                self._seen[name] = pack, _Seen(now, before, done, now, _shape(pack) not in self._shapes)
                self._shapes.add(_shape(pack))
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
        self._shapes.add(_shape(pack))
        _, seen = self._seen.pop(pack.pack_id, (pack, None))
        if seen is None:
            self._finished.append((pack, seconds))
        elif seen.first is not None and seen.first[1] < 1:
            self._finished.append((pack, (time.monotonic() - seen.first[0]) / (1 - seen.first[1])))
        elif seen.before < 1:
            self._finished.append((pack, (time.monotonic() - seen.began) / (1 - seen.before)))
        if seen is not None and seen.is_first:
            self._preparations.append(seen.preparation)

    def seconds(self) -> float | None:
        """Return the time left in seconds; None while a pack trains of which no pace is known, nor one of its width."""
        now = time.monotonic()
        known = list(self._finished)
        preparations = list(self._preparations)
        for pack, seen in self._seen.values():
            if seen.whole is not None:
                known.append((pack, seen.whole))
                preparations += [seen.preparation] * seen.is_first
        if not known:
            return 0.0 if not (self._waiting or self._seen) else None
        pace, widths = _Pace(known), {_width(pack) for pack, _ in known}
        preparation = sum(preparations) / max(len(preparations), 1)
        free = []
        for pack, seen in self._seen.values():
            if seen.whole is not None:
                free.append(max(0.0, (1 - seen.now) * seen.whole - (now - seen.reported)))
            elif _width(pack) in widths:
                rest = (1 - seen.before) * pace.seconds(pack) + preparation * seen.is_first
                free.append(max(0.0, rest - (now - seen.began)))
            else:
                return None
        free += [0.0] * (self._workers - len(free))
        heapq.heapify(free)
        shapes = set(self._shapes)
        for pack in self._waiting.values():
            expected = pace.seconds(pack) + preparation * (_shape(pack) not in shapes)
            shapes.add(_shape(pack))
            heapq.heappush(free, heapq.heappop(free) + expected)
        return max(free)


class _Pace:
    """What packs take: a s + b s r + c p seconds for s steps of r runs and p planned seconds, then a factor by width.

    The coefficients are not negative and minimize the squared relative errors.

    Args:
        known: Packs, and the seconds that all their steps take.
    """

    def __init__(self, known: list[tuple[Pack, float]]) -> None:
        from scipy.optimize import nnls  # `noisescale status` does not wait for it

        costs = np.array([_costs(pack) for pack, _ in known])
        measured = np.maximum([seconds for _, seconds in known], 1e-9)
        relative = costs / measured[:, None]
        units = relative.mean(0)
        plan = np.array([0.0, 0.0, 1.0])
        shares, _ = nnls(
            np.concatenate([relative / units, PLAN_WEIGHT * np.eye(3)]),
            np.concatenate([np.ones(len(known)), PLAN_WEIGHT * plan]),
        )
        self._coefficients: NDArray[np.float64] = shares / units
        sums: dict[int | None, NDArray[np.float64]] = {}
        for (pack, _), seconds, fitted in zip(known, measured, costs @ self._coefficients, strict=True):
            sums[_width(pack)] = sums.get(_width(pack), np.zeros(2)) + (seconds, fitted)
        self._factors = {width: float(seconds / max(fitted, 1e-9)) for width, (seconds, fitted) in sums.items()}

    def seconds(self, pack: Pack) -> float:
        """Return the seconds that all steps of a pack take."""
        return float(_costs(pack) @ self._coefficients) * self._factors.get(_width(pack), 1.0)


def _costs(pack: Pack) -> NDArray[np.float64]:
    steps = max((run.steps for run in pack.runs), default=1)
    return np.array([steps, steps * max(len(pack.runs), 1), max(pack.seconds, 1e-9)])


def _shape(pack: Pack) -> Hashable:
    return pack.runs[0].shape_key if pack.runs else None


def _width(pack: Pack) -> int | None:
    return pack.runs[0].width if pack.runs else None
