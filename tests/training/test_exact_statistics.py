from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from noisescale.families import ModelOptions, family_factory
from noisescale.training.exact_statistics import exact_statistics, other_statistics

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2),
    ).double()  # fmt: skip


def test_an_evaluation_pass_equals_a_training_pass_over_the_whole_set() -> None:
    module, inputs = network(), torch.randn(50, 2, 6, 6, dtype=torch.float64) + 3
    whole = copy.deepcopy(module).train()(inputs)
    for chunk in (7, 50, 64):
        corrected = copy.deepcopy(module)
        exact_statistics(corrected, inputs, chunk)
        torch.testing.assert_close(corrected(inputs), whole, rtol=1e-10, atol=1e-10)


def test_a_module_without_batch_normalization_does_not_change() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    before = copy.deepcopy(module.state_dict())
    exact_statistics(module, torch.randn(9, 3), 4)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_layer_without_running_averages_may_follow_one_with_them() -> None:
    module = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2)
    )
    inputs = torch.randn(9, 3)
    exact_statistics(module, inputs, 9)
    torch.testing.assert_close(module(inputs), copy.deepcopy(module).train()(inputs), rtol=1e-4, atol=1e-5)


class Running(nn.Module):
    """A normalization of the user, with running averages of torch's names."""

    running_mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.running_mean


def scripted(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script: nn.Module = torch.jit.script(layer)
    return script


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (scripted(nn.BatchNorm1d(4)), ["1"]),
        (Running(), ["1"]),
        (nn.InstanceNorm1d(4, track_running_stats=True), ["1"]),
        (nn.BatchNorm1d(4), []),
        (nn.LayerNorm(4), []),
    ],
)
def test_other_running_averages_are_named(layer: nn.Module, names: list[str]) -> None:
    assert other_statistics(nn.Sequential(nn.Linear(3, 4), layer)) == names


@pytest.mark.parametrize(("normalization", "family"), [("batch", "convnet"), ("ghost_batch", "resnet")])
def test_a_run_with_exact_statistics_is_evaluated_with_them(
    normalization: str, family: str, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    """The training loss equals the loss of one training pass over the whole set, which is at most one ghost batch."""
    options = {"depth": 2} if family == "convnet" else {"depth": 1, "blocks": "[1]"}
    if normalization == "ghost_batch":
        options["ghost_size"] = 64
    data = make_data((2, 6, 6))
    runs = [
        make_run(family=family, normalization=normalization, width=4, batch_statistics="exact", seed=seed, **options)
        for seed in range(2)
    ]
    trainer = make_trainer(runs, data)
    trainer.advance()
    module = family_factory(ModelOptions.of_run(runs[0]))(4, (2, 6, 6), 4).double()
    running = make_trainer([make_run(**{**_fields(run), "batch_statistics": "running"}) for run in runs], data)
    running.advance()
    for number, result in enumerate(trainer.results()):
        module.load_state_dict({name: one[number] for name, one in trainer.state.parameters.items()}, strict=False)
        with torch.no_grad():
            loss = nn.functional.cross_entropy(module.train()(data.x_train.double()), data.y_train)
        assert result.curves["train_loss"][-1] == pytest.approx(float(loss), rel=1e-9)
        assert running.results()[number].curves["train_loss"][-1] != pytest.approx(float(loss), rel=1e-6)


def _fields(run: object) -> dict[str, object]:
    return {name: getattr(run, name) for name in run.__dataclass_fields__}  # type: ignore[attr-defined]
