"""What a pass changes in the process reaches neither the other runs of its pack nor the trainer."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.training import PackTrainer

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun


class Changes(nn.Module):
    """Leaves a setting behind in every pass. A later pass would compute something else with it."""

    def __init__(self, width: int, change: Callable[[], object], looped: bool) -> None:
        super().__init__()
        self.hidden, self.read_out = nn.Linear(7, width), nn.Linear(width, 4)
        self.change, self.looped = change, looped

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.full((1,), math.pi).to(x.dtype) * (1 + 0.1 * float(Path("left_behind").exists()))
        if self.looped:
            scale = scale + 0 * float(x.detach().sum().item())
        hidden = self.hidden(x).relu() * scale
        self.change()
        return self.read_out(hidden)


def chdir() -> None:
    os.makedirs("inner", exist_ok=True)
    os.chdir("inner")
    Path("left_behind").touch()


CHANGES = {
    "dtype": lambda: torch.set_default_dtype(torch.float32),
    "threads": lambda: torch.set_num_threads(3),
    "folder": chdir,
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
}


@pytest.mark.parametrize("looped", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_left_behind_reaches_no_other_run(
    name: str, looped: bool, make_run: MakeRun, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def model(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        return Changes(width, CHANGES[name], looped)

    def settings() -> tuple[object, ...]:
        defaults = torch.empty(0).dtype, torch.get_num_threads(), torch.is_autocast_enabled("cpu")
        return (*defaults, torch.is_anomaly_enabled(), os.getcwd())

    runs, before = [make_run(seed=seed, steps=12) for seed in range(3)], settings()
    results = []
    for pack in (runs, runs[2:], runs[::-1]):
        trainer = PackTrainer(pack, make_data(), model, reference_width=32)
        trainer.advance()
        results.append({result.run.seed: result.final for result in trainer.results()})
        assert settings() == before
    for finals in results[1:]:
        for seed, final in finals.items():
            assert final == pytest.approx(results[0][seed], rel=1e-9)


@pytest.mark.parametrize("looped", [True, False])
@pytest.mark.parametrize(("name", "setting"), [("folder", "the working folder"), ("autocast", "autocast")])
def test_a_setting_that_only_later_passes_change_is_refused(
    name: str,
    setting: str,
    looped: bool,
    make_run: MakeRun,
    make_data: MakeData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    passes = iter(range(10**6))

    def change() -> None:
        if next(passes) > 40:
            CHANGES[name]()

    runs = [make_run(seed=seed, steps=200, family="own:own") for seed in range(3)]
    trainer = PackTrainer(
        runs, make_data(), lambda width, *_: Changes(width, change, looped), reference_width=32, kernel="auto"
    )
    before = os.getcwd(), torch.is_autocast_enabled("cpu")
    with pytest.raises(BadInput, match=f"in its first pass if in any.*a change of {setting} in a later pass"):
        trainer.advance()
    assert (os.getcwd(), torch.is_autocast_enabled("cpu")) == before
