"""The plan: which runs train together. It is stored at first start and reused, so a resumed pack has the same mates."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from noisescale.runs import Run, pack_id
from noisescale.store import write_atomically
from noisescale.sweeps.cost import Shape, memory, seconds

# Numbers of all runs' parameters in one pack: 2 MiB in float32, about a core's second-level cache. Larger packs
# stream their weights from memory at every step.
PACK_PARAMETERS = 524_288

# Below this many runs the overhead of a step is no longer shared, whatever the cache says.
SMALLEST_PACK = 10

PACK_BYTES = 1 << 30

# A GPU has no such cache to keep to, and is filled only by many small networks at once. How many of a pack's runs train
# together is measured when it starts.
GPU_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class PackLimits:
    """How large a pack may be.

    Arguments:
        parameters: numbers of all its runs' parameters. memory: bytes.
    """

    parameters: float = PACK_PARAMETERS
    memory: float = PACK_BYTES

    @classmethod
    def of(cls, device: str) -> PackLimits:
        """Those of a device."""
        if device != "cuda":
            return cls()
        return cls(math.inf, GPU_SHARE * torch.cuda.mem_get_info()[1])


CORE = PackLimits()


@dataclass(frozen=True, slots=True)
class Pack:
    """Runs that train as one program.

    Arguments:
        seconds: estimated time on one worker.
    """

    pack_id: str
    runs: tuple[Run, ...]
    seconds: float


def make_packs(runs: Iterable[Run], shapes: dict[int, Shape], limits: PackLimits = CORE) -> list[Pack]:
    """Group runs of equal shape and cut each group for cache and memory; longest first.

    Arguments:
        runs: in any order. shapes: by width. limits: by default those of a core.
    """
    groups: dict[object, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.shape_key].append(run)
    packs = []
    for group in groups.values():
        size = pack_size(group, shapes[group[0].width], limits)
        for start in range(0, len(group), size):
            part = group[start : start + size]
            packs.append(Pack(pack_id(part), tuple(part), seconds(part, shapes[part[0].width])))
    return sorted(packs, key=lambda pack: -pack.seconds)


def pack_size(runs: Sequence[Run], shape: Shape, limits: PackLimits = CORE) -> int:
    """Runs per pack, so that equal parts result and none is above the limits."""
    cache = max(SMALLEST_PACK, limits.parameters // shape.parameters)
    most = max(1, int(min(cache, limits.memory // memory(runs[:1], shape), len(runs))))
    parts = -(-len(runs) // most)
    return -(-len(runs) // parts)


class Plan:
    """The stored packs of a sweep's folder.

    Arguments:
        path: a JSON-lines file, one pack a line; it is rewritten as a whole and atomically.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packs: dict[str, Pack] = {}
        self._pack_of: dict[str, str] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                runs = tuple(Run.from_record(run) for run in record["runs"])
                self._enter(Pack(record["pack_id"], runs, record["seconds"]))

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
            json.dumps({"pack_id": pack.pack_id, "seconds": pack.seconds, "runs": [asdict(run) for run in pack.runs]})
            for pack in self.packs.values()
        ]
        write_atomically(self.path, lambda file: file.write("".join(f"{line}\n" for line in lines).encode()))
