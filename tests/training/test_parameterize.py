"""A plain `torch.optim.SGD` with the groups of `parameterize` gives the same weights as the packed trainer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from noisescale.datasets import Dataset
from noisescale.families import ModelOptions, family_factory
from noisescale.families.mlp import mlp
from noisescale.parameterizations import WITH_BASE_WIDTH
from noisescale.runs import Run
from noisescale.training import PackTrainer, parameterize
from noisescale.training.sampling import index_block

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer


def train_plainly(model: nn.Module, optimizer: torch.optim.Optimizer, run: Run, data: Dataset) -> None:
    """Return the run's order of examples. An epoch has seven batches of eight."""
    orders = [index_block(run.sampling, [run.seed], block, 60, 8)[0, :56].view(7, 8) for block in range(3)]
    for index in torch.cat(orders)[: run.steps]:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data.x_train[index].double()), data.y_train[index]).backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["standard", "ntk", "improved_standard", "mup", "own"])
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.02)])
def test_groups_of_a_plain_optimizer_equal_the_packed_trainer_run_for_run(
    name: str, momentum: float, decay: float, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data = make_data()
    base_width = 4 if name in WITH_BASE_WIDTH else None
    base = make_run(
        parameterization=name, momentum=momentum, weight_decay=decay, depth=2, init_scale=1.5, base_width=base_width
    )
    runs = [replace(base, seed=seed, learning_rate=rate) for seed, rate in ((0, 0.05), (1, 0.02))]
    trainer = make_trainer(runs, data)
    trainer.advance()
    for position, run in enumerate(runs):
        torch.manual_seed(run.seed)
        model = mlp(run.width, (7,), 4, depth=2, activation="relu").double()
        reference = mlp(base_width or 2 * run.width, (7,), 4, depth=2, activation="relu")
        groups = parameterize(
            model,
            reference,
            name,
            run.learning_rate,
            weight_decay=run.weight_decay,
            init_scale=run.init_scale,
            seed=run.seed,
        )
        optimizer = torch.optim.SGD(groups, momentum=momentum)
        train_plainly(model, optimizer, run, data)
        for parameter_name, tensor in model.named_parameters():
            packed = trainer.state.parameters[parameter_name][position]
            torch.testing.assert_close(tensor.detach(), packed, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["ntk", "improved_standard", "mup"])
@pytest.mark.parametrize(
    "options", [{"family": "convnet", "depth": 2}, {"family": "resnet", "depth": 1, "blocks": "[1, 1]"}]
)
def test_groups_of_a_convolutional_network_equal_the_packed_trainer(
    name: str, options: dict[str, Any], make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    """Batch normalization adds gains and shifts, which have separate rows of the table."""
    base_width = 2 if name in WITH_BASE_WIDTH else None
    data, options = make_data((1, 6, 6)), {**options, "normalization": "batch", "width": 4, "base_width": base_width}
    runs = [make_run(parameterization=name, momentum=0.5, seed=seed, **options) for seed in range(2)]
    trainer = make_trainer(runs, data)
    trainer.advance()
    factory = family_factory(ModelOptions.of_run(runs[0]))
    for position, run in enumerate(runs):
        torch.manual_seed(run.seed)
        model, reference = factory(4, (1, 6, 6), 4).double(), factory(base_width or 8, (1, 6, 6), 4)
        optimizer = torch.optim.SGD(parameterize(model, reference, name, 0.1, seed=run.seed), momentum=0.5)
        train_plainly(model, optimizer, run, data)
        for parameter_name, tensor in model.named_parameters():
            packed = trainer.state.parameters[parameter_name][position]
            torch.testing.assert_close(tensor.detach(), packed, rtol=1e-9, atol=1e-11)


class Transformer(nn.Module):
    """A user's transformer block: two kinds of attention, gains, two hidden widths, and positions that start at 0."""

    def __init__(self, width: int, shape: tuple[int, ...], classes: int, fused: bool) -> None:
        super().__init__()
        tokens, inputs = shape
        self.embed = nn.Linear(inputs, width)
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))
        self.norm = nn.LayerNorm(width)
        if fused:
            self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        else:
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.read_out = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.positions
        h = self.norm(x)
        if hasattr(self, "attention"):
            h, _ = self.attention(h, h, h)
        else:
            scores = self.query(h) @ self.key(h).mT / h.shape[-1] ** 0.5
            h = scores.softmax(-1) @ self.value(h)
        x = x + h
        x = x + self.down(torch.relu(self.up(x)))
        return self.read_out(x.mean(-2))  # type: ignore[no-any-return]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["standard", "ntk", "improved_standard", "mup", "own"])
def test_a_users_transformer_equals_the_packed_trainer_in_every_parameterization(
    name: str, fused: bool, make_run: MakeRun, make_data: MakeData
) -> None:
    def factory(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        return Transformer(width, shape, classes, fused)

    data = make_data((5, 3))
    base_width = 4 if name in WITH_BASE_WIDTH else None
    rows = "query.weight" if name == "mup" and not fused else ""
    base = make_run(
        parameterization=name, momentum=0.9, weight_decay=0.02, base_width=base_width, query_rows=rows, width=12
    )
    runs = [replace(base, seed=seed, learning_rate=rate) for seed, rate in ((0, 0.01), (1, 0.02))]
    trainer = PackTrainer(runs, data, factory, reference_width=24)
    trainer.advance()
    for position, run in enumerate(runs):
        torch.manual_seed(run.seed)
        model = factory(run.width, (5, 3), 4).double()
        groups = parameterize(
            model, factory(24, (5, 3), 4), name, run.learning_rate, weight_decay=run.weight_decay, seed=run.seed,
            base=base_width and factory(base_width, (5, 3), 4), query_rows=rows.split(),
        )  # fmt: skip
        optimizer = torch.optim.SGD(groups, momentum=run.momentum)
        train_plainly(model, optimizer, run, data)
        for parameter_name, tensor in model.named_parameters():
            packed = trainer.state.parameters[parameter_name][position]
            assert torch.isfinite(packed).all()
            torch.testing.assert_close(tensor.detach(), packed, rtol=1e-10, atol=1e-12)


_ADAMW = {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-3}


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize(
    ("optimizer", "decay", "hyperparameters"),
    [
        ("adamw", "decoupled", _ADAMW),
        ("adamw", "independent", _ADAMW),
        ("sgd", "coupled", {"momentum": 0.9}),
    ],
)
def test_queries_that_share_a_tensor_train_at_their_rate(
    optimizer: str, decay: str, hyperparameters: dict[str, float], clip_norm: float | None, make_run: MakeRun,
    make_data: MakeData,
) -> None:  # fmt: skip
    """In torch's attention, queries are a part of a tensor. A large ϵ of AdamW shows whether theirs is right."""

    def factory(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        return Transformer(width, shape, classes, fused=True)

    data = make_data((5, 3))
    settings = {"momentum": 0.0, **hyperparameters, "weight_decay": 0.1, "decay": decay}
    run = make_run(
        parameterization="mup", optimizer=optimizer, base_width=4, width=12, learning_rate=0.02, clip_norm=clip_norm,
        **settings,
    )  # fmt: skip
    trainer = PackTrainer([run], data, factory, reference_width=24)
    trainer.advance()
    torch.manual_seed(run.seed)
    model = factory(12, (5, 3), 4).double()
    groups = parameterize(
        model, factory(24, (5, 3), 4), "mup", 0.02, base=factory(4, (5, 3), 4), optimizer=optimizer, weight_decay=0.1,
        decay=decay, seed=run.seed, **hyperparameters,
    )  # fmt: skip
    built = groups.build()
    if clip_norm is not None:
        built.register_step_pre_hook(lambda *_arguments: float(groups.clip_gradients(clip_norm)) and None)
    train_plainly(model, built, run, data)
    for name, tensor in model.named_parameters():
        torch.testing.assert_close(tensor.detach(), trainer.state.parameters[name][0], rtol=1e-10, atol=1e-12)
