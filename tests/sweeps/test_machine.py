"""The device, the workers and the memory that a sweep uses on a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps import machine
from noisescale.sweeps.machine import REMOTE_GPU_MEMORY, Workers, choose_device, usable_memory


def test_without_a_gpu_only_the_cpu_or_a_cluster_can_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    for device in ("cuda", "tpu"):
        with pytest.raises(BadInput, match="--device"):
            choose_device(device)
    assert choose_device("cuda", "ray") == "cuda"  # a node of the cluster may have one


def test_a_gpu_is_the_default_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device("auto") == "cuda"


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("requested", [None, 1, 2, 3, 100])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_threads_of_all_workers_are_never_more_than_the_cores(
    device: str, requested: int | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_count", lambda: cores)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    workers = Workers.of(device, requested)
    assert workers.count >= 1 and workers.threads >= 1
    assert workers.count * workers.threads <= cores
    assert workers.count == min(requested or (2 if device == "cuda" else cores), cores)


@pytest.mark.parametrize(
    ("variable", "requested", "threads", "expected"),
    [
        (None, None, None, (8, 1)),
        (None, 1, None, (1, 1)),
        (None, 2, 3, (2, 3)),
        (None, 4, 3, (4, 2)),
        (None, 1, 100, (1, 8)),
        ("4", None, None, (2, 4)),
        ("4,2", 1, None, (1, 4)),
        ("4", None, 1, (8, 1)),
        ("1", 2, None, (2, 1)),
        ("many", None, None, (8, 1)),
    ],
)
def test_threads_are_those_that_the_user_asks_for(
    variable: str | None,
    requested: int | None,
    threads: int | None,
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    workers = Workers.of("cpu", requested, threads)
    assert (workers.count, workers.threads) == expected


def test_a_container_s_memory_is_shared_by_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, none = tmp_path / "memory.max", tmp_path / "unlimited"
    limit.write_text("1000000000\n")
    none.write_text("max\n")
    whole = usable_memory()
    monkeypatch.setattr(machine, "_MEMORY_LIMITS", (none, tmp_path / "absent"))
    assert usable_memory() >= whole
    monkeypatch.setattr(machine, "_MEMORY_LIMITS", (none, limit))
    assert usable_memory() == 1e9
    assert Workers(4, 1, "cpu").memory() == 2.5e8


def test_workers_that_share_a_gpu_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (1, 80))
    assert [Workers(count, 1, "cuda").memory() for count in (1, 2, 3, 4, 5)] == [80, 80, 40, 40, pytest.approx(80 / 3)]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert Workers(4, 1, "cuda").memory() == REMOTE_GPU_MEMORY
