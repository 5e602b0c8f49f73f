"""Frozen parameters keep the module's values, in packs and alone, and the others train as in a plain loop of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from plain_loop import batches
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families import build as seeded_build
from noisescale.families.custom import CustomBuild
from noisescale.parameterizations import build_table, describe_parameters
from noisescale.training import PackTrainer, parameterize

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun

TOLERANCE = 1e-9
STEPS, WIDTH, BASE = 60, 8, 4
ADAMW: dict[str, Any] = {"optimizer": "adamw", "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "decay": "decoupled"}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "weight_decay": 0.05, "learning_rate": 0.03},
    "adamw": {**ADAMW, "weight_decay": 0.05, "learning_rate": 0.01},
}

HYPERPARAMETERS = {"sgd": ("momentum",), "adamw": ("beta1", "beta2", "epsilon")}


class Backbone(nn.Module):
    """Has a frozen embedding of the inputs and a frozen shift, and trains the rest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.Linear(7, 5).requires_grad_(False)
        self.hidden = nn.Linear(5, width)
        self.hidden.bias.requires_grad_(False)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.hidden(torch.tanh(self.backbone(x)))))
        return out


def factory(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Backbone(width)


@pytest.mark.parametrize("kernel", ["vmap", "loop"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("parameterization", ["own", "ntk", "mup"])
def test_frozen_parameters_stay_and_the_others_equal_a_plain_loop(
    parameterization: str, optimizer: str, kernel: str, make_run: MakeRun, make_data: MakeData
) -> None:
    data = make_data()
    base = BASE if parameterization == "mup" else None
    runs = [
        make_run(
            parameterization=parameterization, base_width=base, width=WIDTH, seed=seed, steps=STEPS, average=True,
            average_decay=0.9, family="own:own", **OPTIMIZERS[optimizer],
        )
        for seed in (3, 8)
    ]  # fmt: skip
    pack = PackTrainer(runs, data, factory, reference_width=2 * WIDTH, kernel=kernel)
    alone = PackTrainer(runs[1:], data, factory, reference_width=2 * WIDTH, kernel=kernel)
    for trainer in (pack, alone):
        trainer.advance()
    for trainer, position, run in ((pack, 0, runs[0]), (pack, 1, runs[1]), (alone, 0, runs[1])):
        model, reference, base_model = (seeded_build(factory, w, (7,), 4, run.seed) for w in (WIDTH, 2 * WIDTH, BASE))
        start = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
        model.double()
        groups = parameterize(
            model, reference, parameterization, run.learning_rate, base=None if base is None else base_model,
            optimizer=optimizer, weight_decay=run.weight_decay, seed=run.seed,
            **{name: getattr(run, name) for name in HYPERPARAMETERS[optimizer]},
        )  # fmt: skip
        torch_optimizer, average = groups.build(), {}
        for _, index in batches(run, STEPS, len(data.x_train)):
            torch_optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.x_train[index].double()), data.y_train[index]).backward()
            torch_optimizer.step()
            for name, tensor in model.named_parameters():
                average[name] = 0.9 * average[name] + 0.1 * tensor.detach() if name in average else tensor.detach() * 1
        frozen = {"backbone.weight", "backbone.bias", "hidden.bias"}
        assert trainer.state.parameters.keys() == dict(model.named_parameters()).keys() - frozen
        for name, tensor in model.named_parameters():
            values = trainer.state.buffers if name in frozen else trainer.state.parameters
            torch.testing.assert_close(values[name][position], tensor.detach(), rtol=0, atol=TOLERANCE)
            if name in frozen:
                assert torch.equal(values[name][position], start[name].double())
            else:
                averages = trainer.state.averages[name][position]
                torch.testing.assert_close(averages, average[name], rtol=0, atol=TOLERANCE)
        assert {row["layer"] for row in trainer.results()[position].layers} == set(trainer.state.parameters)


def test_a_table_has_no_row_for_a_frozen_parameter() -> None:
    described = describe_parameters(Backbone(4), Backbone(8))
    assert [row.name for row in build_table("ntk", described)] == ["hidden.weight", "head.weight", "head.bias"]


def test_a_module_without_a_trained_parameter_is_refused_by_name() -> None:
    def frozen(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Linear(7, 4).requires_grad_(False)

    with pytest.raises(BadInput, match="requires_grad = False for weight, bias"):
        CustomBuild(frozen, "own:frozen")(4, (7,), 4)
