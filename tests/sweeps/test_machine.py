"""The device and the workers that a machine is given."""

from __future__ import annotations

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps.machine import choose_device, default_workers, usable_cores


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    for device in ("cuda", "tpu"):
        with pytest.raises(BadInput, match="--device"):
            choose_device(device)
    assert choose_device("cuda", "ray") == "cuda"  # a node of the cluster may have one
    assert default_workers("cpu") == usable_cores()


def test_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert choose_device("auto") == "cuda"
    assert default_workers("cuda") == 3
