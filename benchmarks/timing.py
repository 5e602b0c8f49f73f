"""Worker processes that time a program in one process or in several at the same time."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch
from contestants import BareKernel, Contestant, ImageRow, PlainLoop, Row, Trainer

PLAIN = ("plain single", "plain foreach", "plain fused")
GEMM_SIZE = 2048

Program = tuple[str, int, int]
AnyRow = Row | ImageRow


class Workers:
    """Processes that are started once and keep the programs that they build for a row.

    Args:
        count: Number of processes.
    """

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends, self._processes = [], []
        for _ in range(count):
            parent_end, child_end = context.Pipe()
            process = context.Process(target=_serve, args=(child_end,), daemon=True)
            process.start()
            self._ends.append(parent_end)
            self._processes.append(process)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()

    def start_row(self) -> None:
        """Discard the programs of the previous row."""
        self._ask(self._ends, ("forget",))

    def rate(self, program: Program, row: AnyRow, seconds: float) -> float:
        """Time a program and return its run-steps per second, summed over its processes.

        Args:
            program: Name, number of processes, and number of threads of each process.
            row: The networks.
            seconds: Shortest time to measure, in seconds.
        """
        name, processes, threads = program
        return sum(self._ask(self._ends[:processes], ("rate", name, row, threads, seconds)))

    def kernel(self, row: AnyRow) -> str:
        """Return the kernel that the trainer of a row has chosen. The trainer must have been timed before."""
        self._ends[0].send(("kernel", row))
        return str(self._ends[0].recv())

    def gemm_peak(self) -> float:
        """Return the operations per second of large square products.

        It is the larger of two rates: one process with two threads, and all processes with one thread each.
        """
        return max(self._ask(self._ends[:1], ("gemm", 2))[0], sum(self._ask(self._ends, ("gemm", 1))))

    def _ask(self, ends: list[Connection], message: tuple[Any, ...]) -> list[float]:
        for end in ends:
            end.send(message)
        answers = [end.recv() for end in ends]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


def _serve(end: Connection) -> None:
    # The workers of a sweep do this too. It speeds up every program.
    torch.set_flush_denormal(True)
    built: dict[tuple[str, AnyRow], Contestant] = {}
    while True:
        kind, *arguments = end.recv()
        try:
            if kind == "forget":
                built.clear()
                end.send(0.0)
            elif kind == "gemm":
                end.send(_gemm(*arguments))
            elif kind == "kernel":
                trainer = built["trainer", arguments[0]]
                end.send(trainer.kernel if isinstance(trainer, Trainer) else "")
            else:
                end.send(_rate(built, *arguments))
        except Exception as error:
            end.send(error)


def _rate(built: dict[tuple[str, AnyRow], Contestant], name: str, row: AnyRow, threads: int, seconds: float) -> float:
    torch.set_num_threads(threads)
    if (name, row) not in built:
        built[name, row] = _build(name)(row)
        built[name, row].advance()
    contestant, calls, began = built[name, row], 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - began < seconds:
        contestant.advance()
        calls += 1
    return calls * row.steps * contestant.runs / (time.perf_counter() - began)


def _build(name: str) -> Callable[[Any], Contestant]:
    if name == "jax":
        from jax_rival import JaxScan

        return JaxScan
    if name in PLAIN:
        return lambda row: PlainLoop(row, name.split()[1])
    programs: dict[str, Callable[[Any], Contestant]] = {
        "trainer": Trainer,
        "kernel": lambda row: BareKernel(row, "auto"),
        "func": lambda row: BareKernel(row, "vmap"),
    }
    return programs[name]


def _gemm(threads: int) -> float:
    torch.set_num_threads(threads)
    a, b = torch.randn(2, GEMM_SIZE, GEMM_SIZE).unbind()
    out = torch.empty_like(a)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - began)
    return 2 * GEMM_SIZE**3 / sorted(times[1:])[2]
