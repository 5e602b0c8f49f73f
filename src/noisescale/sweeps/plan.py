"""The plan: which runs train together. It is stored at first start and reused, so a resumed pack has the same mates."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from noisescale.runs import Run, pack_id
from noisescale.store import write_atomically
from noisescale.sweeps.cost import Shape, memory, seconds
from noisescale.sweeps.machine import Workers
from noisescale.sweeps.plan_file import plan_records, planned_runs

# Numbers of all runs' parameters in one pack: 2 MiB in float32, about a core's second-level cache. Larger packs
# stream their weights from memory at every step.
PACK_PARAMETERS = 524_288

# Below this many runs the overhead of a step is no longer shared, whatever the cache says.
SMALLEST_PACK = 10

# Bytes of one pack on a CPU: a gibibyte, and no more than this part of the memory that its worker may count on.
PACK_BYTES = 1 << 30
CPU_SHARE = 0.25

# A GPU has no such cache to keep to, and is filled only by many small networks at once. How many of a pack's runs train
# together is measured when it starts.
GPU_SHARE = 0.5


# A pack is halved if it would keep other workers waiting for longer than an equal share of all work, if each half takes
# less than this part of its time, and if it is longer than this many seconds: a worker's start takes some.
HALVES_TAKE, WORTH_HALVING = 0.8, 10.0


@dataclass(frozen=True, slots=True)
class PackLimits:
    """How large a pack may be.

    Args:
        parameters: Numbers of all its runs' parameters.
        memory: bytes.
        workers: That train at once.
    """

    parameters: float = PACK_PARAMETERS
    memory: float = PACK_BYTES
    workers: int = 1

    @classmethod
    def of(cls, workers: Workers) -> PackLimits:
        """Those of a machine's workers."""
        if workers.device == "cuda":
            return cls(math.inf, GPU_SHARE * workers.memory(), workers.count)
        return cls(memory=min(PACK_BYTES, CPU_SHARE * workers.memory()), workers=workers.count)


CORE = PackLimits()


@dataclass(frozen=True, slots=True)
class Pack:
    """Runs that train as one program.

    Args:
        seconds: Estimated time on one worker.
    """

    pack_id: str
    runs: tuple[Run, ...]
    seconds: float


def make_packs(runs: Iterable[Run], shapes: dict[int, Shape], limits: PackLimits = CORE) -> list[Pack]:
    """Group runs of equal shape and cut each group for cache and memory, and for workers to share; longest first.

    Args:
        runs: In any order.
        shapes: By width.
        limits: By default those of a core.
    """
    groups: dict[object, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.shape_key].append(run)
    packs = []
    for group in groups.values():
        size = pack_size(group, shapes[group[0].width], limits)
        for start in range(0, len(group), size):
            packs.append(_pack(group[start : start + size], shapes))
    return _shared_out(packs, shapes, limits.workers)


def _pack(runs: Sequence[Run], shapes: dict[int, Shape]) -> Pack:
    return Pack(pack_id(list(runs)), tuple(runs), seconds(runs, shapes[runs[0].width]))


def _shared_out(packs: Iterable[Pack], shapes: dict[int, Shape], workers: int) -> list[Pack]:
    """The packs, the longest of them halved while it alone would keep the other workers waiting; longest first."""
    found = sorted(packs, key=lambda pack: -pack.seconds)
    share = sum(pack.seconds for pack in found) / workers
    while found and (longest := found[0]).seconds > max(WORTH_HALVING, share / HALVES_TAKE):
        middle = len(longest.runs) // 2
        if middle < SMALLEST_PACK:
            break
        halves = [_pack(part, shapes) for part in (longest.runs[:middle], longest.runs[middle:])]
        if max(half.seconds for half in halves) > HALVES_TAKE * longest.seconds:
            break
        found = sorted([*halves, *found[1:]], key=lambda pack: -pack.seconds)
    return found


def pack_size(runs: Sequence[Run], shape: Shape, limits: PackLimits = CORE) -> int:
    """Runs per pack, so that equal parts result and none is above the limits."""
    cache = max(SMALLEST_PACK, limits.parameters // shape.parameters)
    most = max(1, int(min(cache, limits.memory // memory(runs[:1], shape), len(runs))))
    parts = -(-len(runs) // most)
    return -(-len(runs) // parts)


class Plan:
    """The stored packs of a sweep's folder.

    Args:
        path: A JSON-lines file, one pack a line; it is rewritten as a whole and atomically.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packs: dict[str, Pack] = {}
        self._pack_of: dict[str, str] = {}
        for record in plan_records(path):
            self._enter(Pack(record["pack_id"], planned_runs(record, path), record["seconds"]))

    def packs_for(
        self, runs: Iterable[Run], shapes: dict[int, Shape], limits: PackLimits = CORE
    ) -> tuple[list[Pack], list[Pack]]:
        """The packs that train these runs: those already planned that hold any of them, and new ones for the rest."""
        by_id = {run.run_id: run for run in runs}
        planned = dict.fromkeys(self._pack_of[run_id] for run_id in by_id if run_id in self._pack_of)
        rest = [run for run_id, run in by_id.items() if run_id not in self._pack_of]
        return [self.packs[pack_id] for pack_id in planned], make_packs(rest, shapes, limits)

    def add(self, packs: Iterable[Pack]) -> None:
        """Add packs and write the plan before any of them starts."""
        for pack in packs:
            self._enter(pack)
        self._write()

    def keep(self, pack_ids: Container[str]) -> None:
        """Forget every other pack: an interrupted sweep may have planned what a grown one no longer asks for."""
        kept = {pack_id: pack for pack_id, pack in self.packs.items() if pack_id in pack_ids}
        if len(kept) < len(self.packs):
            self.packs, self._pack_of = {}, {}
            self.add(kept.values())

    def _enter(self, pack: Pack) -> None:
        self.packs[pack.pack_id] = pack
        self._pack_of.update((run.run_id, pack.pack_id) for run in pack.runs)

    def _write(self) -> None:
        lines = [
            json.dumps({"pack_id": pack.pack_id, "seconds": pack.seconds, "runs": [run.as_dict() for run in pack.runs]})
            for pack in self.packs.values()
        ]
        write_atomically(self.path, lambda file: file.write("".join(f"{line}\n" for line in lines).encode()))
