"""Schedules of the learning rate, the batch size or the weight decay, as functions of the progress of a run."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar, Literal

from noisescale.errors import BadInput, did_you_mean

# Tolerance for rounding errors of progress. For example, (0.6 − 0.5)/0.05 must count as two periods, not as one.
_ROUNDING = 1e-9

# A double represents all whole numbers below this bound exactly.
_LARGEST_WHOLE = 2**53


@dataclass(frozen=True, slots=True)
class Schedule:
    """A factor f(x) that multiplies the peak learning rate ε after the share x of the budget: ε(x) = ε·f(x).

    With `of = "batch_size"`, the batch size grows instead, B(x) = B/f(x), so that ε/B follows the schedule. The
    learning rate compensates for the rounding of B(x) and for the bound `largest_batch`.

    Args:
        warmup: Share of the budget during which the rate rises linearly from the start.
        of: The quantity that changes, "learning_rate" or "batch_size".
        largest_batch: Upper bound of the batch size, in examples. None for the size of the training set.

    Raises:
        BadInput: An option has a value that is not allowed.

    Source:
        Goyal et al. 2017, section 2.2, for the warm-up. Jastrzębski et al. 2017, section 4.3, and Smith, Kindermans,
        Ying, Le 2018, for the change of the batch size in place of the rate.
    """

    kind: ClassVar[str] = "constant"
    # Whether the schedule also changes the weight decay.
    changes_decay: ClassVar[bool] = False

    warmup: float = 0.0
    of: Literal["learning_rate", "batch_size"] = "learning_rate"
    largest_batch: int | None = None

    def __post_init__(self) -> None:
        _require("warmup", 0 <= self.warmup < 1, "from 0 to below 1", self.warmup)
        known = ("learning_rate", "batch_size")
        _require("of", self.of in known, f"one of {', '.join(map(repr, known))}", self.of)
        bound, is_whole = self.largest_batch, type(self.largest_batch) is int
        _require("largest_batch", bound is None or (is_whole and bound > 0), "a whole number above 0", bound)
        grows = self.of == "batch_size"
        _require("largest_batch", grows or bound is None, "no bound if of = 'learning_rate'", bound)
        _require("warmup", not (grows and self.warmup), "no warm-up if of = 'batch_size'", self.warmup)

    def rate_factor(self, progress: float) -> float:
        """Return f(x) without the warm-up, a number in [0, 1]."""
        return 1.0

    def decay_factor(self, progress: float) -> float:
        """Return the factor of the weight decay λ."""
        return 1.0

    def warmed(self, progress: float, steps: int) -> float:
        """Return f(x) with the warm-up, which starts above 0.

        Args:
            progress: x, the share of the budget that is done.
            steps: Number of steps of the whole budget.
        """
        rise = 1.0 if self.warmup == 0 else min(1.0, (progress + 1 / steps) / self.warmup)
        return rise * self.rate_factor(self._of_rest(progress))

    def _of_rest(self, progress: float) -> float:
        """Return the progress at which the factor without the warm-up is taken."""
        return progress

    @property
    def text(self) -> str:
        """The kind and the options that differ from their defaults, e.g. `step at=[0.5,0.8] factor=0.2`."""
        options = _options(self).items()
        return " ".join([self.kind, *(f"{name}={json.dumps(value, separators=(',', ':'))}" for name, value in options)])

    @property
    def table(self) -> dict[str, Any]:
        """The table that describes the schedule in a spec."""
        return {"kind": self.kind, **_options(self)}


@dataclass(frozen=True, slots=True)
class Step(Schedule):
    """f is multiplied by `factor` at each share of the budget in `at`."""

    kind: ClassVar[str] = "step"

    at: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        inside = bool(self.at) and all(0 < x < 1 for x in self.at) and list(self.at) == sorted(set(self.at))
        _require("at", inside, "rising shares of the budget between 0 and 1", list(self.at))
        _require("factor", 0 < self.factor < 1, "between 0 and 1", self.factor)

    def rate_factor(self, progress: float) -> float:
        return float(self.factor ** sum(progress >= x - _ROUNDING for x in self.at))


@dataclass(frozen=True, slots=True)
class Fall(Schedule):
    """A factor that falls from 1 to `final` over the budget, or over what the warm-up leaves of it.

    Args:
        final: The factor at the end.
        after_warmup: True if the fall begins where the warm-up ends, so that the rate reaches its peak. False if it
            begins at the first step, and the warm-up multiplies it, as in version 0.1.
    """

    kind: ClassVar[str] = ""

    final: float = 0.0
    after_warmup: bool = False

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _require("final", 0 <= self.final < 1, "from 0 to below 1", self.final)

    @property
    def table(self) -> dict[str, Any]:
        options = {"kind": self.kind, **_options(self)}
        # Without this key, a table of a spec means true.
        return {**options, "after_warmup": self.after_warmup} if self.warmup else options

    def _of_rest(self, progress: float) -> float:
        return max(0.0, (progress - self.warmup) / (1 - self.warmup)) if self.after_warmup else progress


@dataclass(frozen=True, slots=True)
class Cosine(Fall):
    """f(x) = final + (1 − final)(1 + cos πx)/2.

    Source:
        Loshchilov, Hutter 2017, section 3, without restarts.
    """

    kind: ClassVar[str] = "cosine"

    def rate_factor(self, progress: float) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, slots=True)
class Linear(Fall):
    """f(x) = 1 − (1 − final)x."""

    kind: ClassVar[str] = "linear"

    def rate_factor(self, progress: float) -> float:
        return 1 - (1 - self.final) * progress


@dataclass(frozen=True, slots=True)
class WarmupStableDecay(Schedule):
    """f(x) = 1 until the share 1 − decay of the budget. Then f falls linearly to `final` at the end.

    Source:
        Hu et al. 2024 (MiniCPM), section 4.1. The linear form of the decay follows Hägele et al. 2024, section 3.
    """

    kind: ClassVar[str] = "warmup_stable_decay"

    decay: float = 0.2
    final: float = 0.0

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _require("decay", 0 < self.decay <= 1, "above 0, at most 1", self.decay)
        _require("final", 0 <= self.final < 1, "from 0 to below 1", self.final)
        fits = self.warmup + self.decay <= 1 + _ROUNDING
        _require("decay", fits, f"at most 1 − warmup = {1 - self.warmup:g}", self.decay)

    def rate_factor(self, progress: float) -> float:
        return 1 - (1 - self.final) * min(1.0, max(0.0, (progress - 1) / self.decay + 1))


@dataclass(frozen=True, slots=True)
class Cyclic(Schedule):
    """f has `cycles` equal cycles between 1 and `low`.

    With the form "square", f is 1 in the first half of a cycle and `low` in the second half. With the form "triangle",
    f rises linearly from `low` to 1 and falls back to `low`.

    Source:
        Jastrzębski et al. 2017, section 4.3, for the square form. L. N. Smith 2017, section 3.1, for the triangle.
    """

    kind: ClassVar[str] = "cyclic"

    low: float = 0.2
    cycles: int = 10
    form: Literal["square", "triangle"] = "square"

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _require("low", 0 < self.low < 1, "between 0 and 1", self.low)
        _require("cycles", type(self.cycles) is int and self.cycles > 0, "a whole number above 0", self.cycles)
        _require("form", self.form in ("square", "triangle"), "'square' or 'triangle'", self.form)

    def rate_factor(self, progress: float) -> float:
        cycles = progress * self.cycles
        if self.form == "square":
            return 1.0 if (cycles + _ROUNDING) % 1.0 < 0.5 else self.low
        return self.low + (1 - self.low) * (1 - abs(2 * (cycles % 1.0) - 1))


@dataclass(frozen=True, slots=True)
class Halving(Schedule):
    """f is 1 up to the share `constant` of the budget. It is halved there, and again after each further share `every`.

    Source:
        Smith, Elsen, De 2020, from memory: constant for half of the budget, then halved after every twentieth of the
        budget. That the constant part ends with the first halving is our choice.
    """

    kind: ClassVar[str] = "halving"

    constant: float = 0.5
    every: float = 0.05

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _require("constant", 0 <= self.constant < 1, "from 0 to below 1", self.constant)
        _require("every", 0.001 <= self.every <= 1, "from 0.001 to 1", self.every)

    def rate_factor(self, progress: float) -> float:
        periods = (progress - self.constant) / self.every + _ROUNDING
        return 1.0 if periods < _ROUNDING * 0.5 else 0.5 ** (1 + math.floor(periods))


@dataclass(frozen=True, slots=True)
class RandomPieces(Schedule):
    """Random factors of the rate and of the decay up to the share `until` of the budget. Afterwards both are 1.

    The first part of the budget has `pieces` equal pieces. In each piece, both factors are drawn log-uniformly from
    [low, 1]. Runs with different values of `seed` therefore have different histories and the same end.

    Source:
        Li, Lyu, Arora 2020, section 5: random schedules of rate and decay, followed by a common schedule.
    """

    kind: ClassVar[str] = "random"
    changes_decay: ClassVar[bool] = True

    pieces: int = 5
    low: float = 0.1
    until: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _require("pieces", type(self.pieces) is int and 0 < self.pieces <= 1000, "from 1 to 1000", self.pieces)
        _require("low", 0 < self.low < 1, "between 0 and 1", self.low)
        _require("until", 0 < self.until <= 1, "above 0, at most 1", self.until)
        _require("seed", type(self.seed) is int and self.seed >= 0, "a whole number of at least 0", self.seed)

    def rate_factor(self, progress: float) -> float:
        return self._drawn(progress, 0)

    def decay_factor(self, progress: float) -> float:
        return self._drawn(progress, 1)

    def _drawn(self, progress: float, column: int) -> float:
        if progress >= self.until - _ROUNDING:
            return 1.0
        piece = min(self.pieces - 1, math.floor(progress / self.until * self.pieces + _ROUNDING))
        return _random_factors(self.seed, self.pieces, self.low)[piece][column]


@cache
def _random_factors(seed: int, pieces: int, low: float) -> list[tuple[float, float]]:
    """Return the factors of rate and decay for every piece."""
    generator = random.Random(f"random schedule {seed}")
    return [(low ** generator.random(), low ** generator.random()) for _ in range(pieces)]


# The schedules, by the value of `kind` in a spec.
SCHEDULES: dict[str, type[Schedule]] = {
    kind.kind: kind for kind in (Schedule, Step, Cosine, Linear, WarmupStableDecay, Cyclic, Halving, RandomPieces)
}


def schedule_from(table: Mapping[str, Any]) -> Schedule:
    """Return the schedule that a table of a spec describes.

    A fall begins where the warm-up ends, unless the table says otherwise.

    Raises:
        BadInput: The kind or an option is unknown, or a value is out of range. The message names the key of the table.
    """
    schedule = _described(table)
    if isinstance(schedule, Fall) and schedule.warmup and "after_warmup" not in table:
        return replace(schedule, after_warmup=True)
    return schedule


def _described(table: Mapping[str, Any]) -> Schedule:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in SCHEDULES:
        names = ", ".join(map(repr, SCHEDULES))
        raise BadInput("kind", f"one of {names}{did_you_mean(kind, SCHEDULES)}", repr(kind))
    schedule = SCHEDULES[kind]
    known = {f.name: f.default for f in fields(schedule)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name == "kind":
            continue
        if name not in known:
            raise BadInput(name, f"the name of an option of {kind!r}: {', '.join(known)}", repr(value))
        values[name] = _checked(name, value, known[name])
    return schedule(**values)


@cache
def parse_schedule(text: str) -> Schedule:
    """Return the schedule with this `text`, as a run stores it."""
    kind, *options = text.split(" ")
    pairs = (option.partition("=") for option in options)
    return _described({"kind": kind, **{name: json.loads(value) for name, _, value in pairs}})


def _checked(name: str, value: Any, default: Any) -> Any:
    """Return the value with the type of the option's default. A whole number is accepted for a float."""
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_WHOLE
    number = is_whole or (isinstance(value, float) and math.isfinite(value))
    if isinstance(default, tuple):
        entries = value if isinstance(value, list | tuple) else ()
        _require(name, bool(entries), "a list of numbers", value)
        return tuple(_checked(name, entry, 0.5) for entry in entries)
    if isinstance(default, bool):
        _require(name, isinstance(value, bool), "true or false", value)
        return value
    if isinstance(default, float):
        _require(name, number, "a number", value)
        return float(value)
    if isinstance(default, str):
        _require(name, isinstance(value, str), "a name", value)
    elif value is not None:
        _require(name, is_whole, "a whole number", value)
    return value


def _require(name: str, holds: bool, required: str, got: Any) -> None:
    if not holds:
        raise BadInput(name, required, repr(got))


def _options(schedule: Schedule) -> dict[str, Any]:
    """Return the options that differ from their defaults. The kind's options come before the options of all kinds."""
    shared = len(fields(Schedule))
    ordered = (*fields(schedule)[shared:], *fields(schedule)[:shared])
    pairs = ((f.name, getattr(schedule, f.name), f.default) for f in ordered)
    changed = ((name, value) for name, value, default in pairs if value != default)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in changed}
