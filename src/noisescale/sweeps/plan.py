"""The plan of a sweep: the packs, which are sets of runs that train together.

The plan is stored before training, so that a pack holds the same runs when a sweep resumes.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from noisescale.runs import Run, pack_id
from noisescale.store import write_atomically
from noisescale.sweeps.cost import ModelSize, memory, seconds
from noisescale.sweeps.machine import Workers
from noisescale.sweeps.plan_file import plan_records, planned_runs

# Number of parameters of all runs in one pack: 2 MiB in float32, about the second-level cache of a core. Larger packs
# stream their weights from memory at every step.
PACK_PARAMETERS = 524_288

# The cache never limits a pack to fewer runs than this. In a smaller pack, each run would pay more of the overhead of a
# step.
MIN_PACK_RUNS = 10

# Largest memory of one pack on a CPU, in bytes.
PACK_BYTES = 1 << 30
# Largest memory of one pack on a CPU, as a share of the worker's memory.
CPU_MEMORY_SHARE = 0.25

# Memory of one pack on a GPU, as a share of the worker's memory. Only many small networks together keep a GPU busy, so
# the cache does not limit packs there. Each pack measures at its start how many of its runs train at once.
GPU_MEMORY_SHARE = 0.5

# A pack is halved only if each half takes at most this fraction of the pack's time, and if an equal share of all work
# for each worker takes less than this fraction of the pack's time.
HALF_TAKES_AT_MOST = 0.8
# A pack that takes fewer seconds is not halved, because workers start slowly.
MIN_SECONDS_TO_HALVE = 10.0


@dataclass(frozen=True, slots=True)
class PackLimits:
    """Limits on the size of packs.

    Args:
        parameters: Largest number of parameters of all runs.
        memory: Largest memory, in bytes.
        workers: Number of workers that train at once and share the packs.
    """

    parameters: float = PACK_PARAMETERS
    memory: float = PACK_BYTES
    workers: int = 1

    @classmethod
    def of(cls, workers: Workers) -> PackLimits:
        """Return the limits for the workers of a machine."""
        if workers.device == "cuda":
            return cls(math.inf, GPU_MEMORY_SHARE * workers.memory(), workers.count)
        return cls(memory=min(PACK_BYTES, CPU_MEMORY_SHARE * workers.memory()), workers=workers.count)


DEFAULT_LIMITS = PackLimits()


@dataclass(frozen=True, slots=True)
class Pack:
    """Runs that train together as one program.

    Args:
        pack_id: The digest of the ids of the runs.
        runs: The runs.
        seconds: Estimated time on one worker, in seconds.
    """

    pack_id: str
    runs: tuple[Run, ...]
    seconds: float


def make_packs(runs: Iterable[Run], sizes: dict[int, ModelSize], limits: PackLimits = DEFAULT_LIMITS) -> list[Pack]:
    """Group runs of equal shape, and cut each group into packs that fit the cache and the memory and keep workers busy.

    Args:
        runs: Runs in any order.
        sizes: Sizes of the model and the data, by width.
        limits: Limits on the size of packs. Default: limits for one worker on one core.

    Returns:
        Packs, longest first.
    """
    groups: dict[object, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.shape_key].append(run)
    packs = []
    for group in groups.values():
        size = pack_size(group, sizes[group[0].width], limits)
        for start in range(0, len(group), size):
            packs.append(_pack(group[start : start + size], sizes))
    return _balanced(packs, sizes, limits.workers)


def _pack(runs: Sequence[Run], sizes: dict[int, ModelSize]) -> Pack:
    return Pack(pack_id(list(runs)), tuple(runs), seconds(runs, sizes[runs[0].width]))


def _balanced(packs: Iterable[Pack], sizes: dict[int, ModelSize], workers: int) -> list[Pack]:
    """Halve the longest pack, repeatedly, as long as other workers would wait for it. Return packs longest first."""
    ordered = sorted(packs, key=lambda pack: -pack.seconds)
    share = sum(pack.seconds for pack in ordered) / workers
    while ordered and (longest := ordered[0]).seconds > max(MIN_SECONDS_TO_HALVE, share / HALF_TAKES_AT_MOST):
        middle = len(longest.runs) // 2
        if middle < MIN_PACK_RUNS:
            break
        halves = [_pack(part, sizes) for part in (longest.runs[:middle], longest.runs[middle:])]
        if max(half.seconds for half in halves) > HALF_TAKES_AT_MOST * longest.seconds:
            break
        ordered = sorted([*halves, *ordered[1:]], key=lambda pack: -pack.seconds)
    return ordered


def pack_size(runs: Sequence[Run], size: ModelSize, limits: PackLimits = DEFAULT_LIMITS) -> int:
    """Compute the number of runs per pack, such that packs are within the limits and about equally large.

    Args:
        runs: Runs of equal size.
        size: Sizes of the model and the data of these runs.
        limits: Limits on the size of packs.

    Returns:
        Number of runs.
    """
    cache = max(MIN_PACK_RUNS, limits.parameters // size.parameters)
    largest = max(1, int(min(cache, limits.memory // memory(runs[:1], size), len(runs))))
    parts = -(-len(runs) // largest)
    return -(-len(runs) // parts)


class Plan:
    """The stored packs of one sweep.

    Args:
        path: A JSON-lines file with one pack per line. Every change rewrites it atomically.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packs: dict[str, Pack] = {}
        self._pack_of: dict[str, str] = {}
        for record in plan_records(path):
            self._register(Pack(record["pack_id"], planned_runs(record, path), record["seconds"]))

    def packs_for(
        self, runs: Iterable[Run], sizes: dict[int, ModelSize], limits: PackLimits = DEFAULT_LIMITS
    ) -> tuple[list[Pack], list[Pack]]:
        """Return the packs that train these runs.

        Args:
            runs: Runs to train.
            sizes: Sizes of the model and the data, by width.
            limits: Limits on the size of new packs.

        Returns:
            The planned packs that hold any of the runs, and new packs for the other runs.
        """
        by_id = {run.run_id: run for run in runs}
        planned = dict.fromkeys(self._pack_of[run_id] for run_id in by_id if run_id in self._pack_of)
        rest = [run for run_id, run in by_id.items() if run_id not in self._pack_of]
        return [self.packs[pack_id] for pack_id in planned], make_packs(rest, sizes, limits)

    def add(self, packs: Iterable[Pack]) -> None:
        """Add packs and write the plan. Call this before any of them starts."""
        for pack in packs:
            self._register(pack)
        self._write()

    def retain(self, pack_ids: Container[str]) -> None:
        """Keep only these packs. An interrupted sweep may have planned packs that a larger grid no longer requires."""
        packs = {pack_id: pack for pack_id, pack in self.packs.items() if pack_id in pack_ids}
        if len(packs) < len(self.packs):
            self.packs, self._pack_of = {}, {}
            self.add(packs.values())

    def _register(self, pack: Pack) -> None:
        self.packs[pack.pack_id] = pack
        self._pack_of.update((run.run_id, pack.pack_id) for run in pack.runs)

    def _write(self) -> None:
        lines = [
            json.dumps({"pack_id": pack.pack_id, "seconds": pack.seconds, "runs": [run.as_dict() for run in pack.runs]})
            for pack in self.packs.values()
        ]
        write_atomically(self.path, lambda file: file.write("".join(f"{line}\n" for line in lines).encode()))
