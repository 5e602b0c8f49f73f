"""Training on a GPU gives the same numbers as on a CPU. The tests are skipped on a machine without a GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "schedule": "cosine", "clip_norm": 1.0},
        {"schedule": 'linear of="batch_size"'},
        {"family": "convnet", "normalization": "batch", "width": 4, "augmentation": "flip crop"},
        {"family": "resnet", "blocks": "[1]", "normalization": "batch", "width": 4, "average": True},
    ],
)
def test_a_pack_on_a_gpu_equals_a_pack_on_a_cpu(
    changes: dict[str, Any], make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    base = make_run(**{"steps": 40, "learning_rate": 0.02, **changes})
    runs, data = [replace(base, seed=seed) for seed in range(5)], make_data((1, 8, 8))
    ends = []
    for device in ("cpu", "cuda"):
        trainer = make_trainer(runs, data, device=device)
        trainer.advance(15)
        saved = trainer.state.as_dict()
        trainer = make_trainer(runs, data, device=device, kernel=trainer.choice)
        trainer.state = type(trainer.state).from_dict(saved)
        trainer.advance()
        ends.append({name: tensor.cpu() for name, tensor in trainer.state.parameters.items()})
        assert len(trainer.results()) == 5
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=1e-8, atol=1e-10)


def test_a_short_step_is_captured_as_a_graph_and_gives_the_same_weights(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run(steps=60, precision="float32", momentum=0.9, schedule="cosine", seed=seed) for seed in range(8)]
    graphed = make_trainer(runs, make_data(), device="cuda")
    graphed.advance()
    assert any(graph is not None for graph in graphed._graphs.values())
    monkeypatch.setattr("noisescale.training.part_step.is_short", lambda step, changed: False)
    plain = make_trainer(runs, make_data(), device="cuda")
    plain.advance()
    for name, tensor in plain.state.parameters.items():
        torch.testing.assert_close(graphed.state.parameters[name], tensor)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_lowered_precision_trains(
    precision: str, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer([make_run(precision=precision)], make_data(), device="cuda")
    trainer.advance()
    assert trainer.results()[0].status == "completed"
    assert not torch.backends.cuda.matmul.allow_tf32


def test_dropout_is_seeded_on_a_gpu(make_run: MakeRun, make_data: MakeData) -> None:
    from torch import nn

    from noisescale.training import PackTrainer

    def factory(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(7, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, classes))

    runs = [make_run(seed=seed) for seed in (0, 1)]
    ends = []
    for trained in (runs, runs[:1]):
        trainer = PackTrainer(trained, make_data(), factory, reference_width=32, device="cuda")
        trainer.advance()
        ends.append([tensor[0].cpu() for tensor in trainer.state.parameters.values()])
    for together, alone in zip(*ends, strict=True):
        torch.testing.assert_close(together, alone)
