"""`parameterize` for a plain `torch.optim.SGD` trains what the packed trainer trains."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from noisescale.families import mlp
from noisescale.parameterizations import parameterize
from noisescale.training.sampling import index_block

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer


@pytest.mark.parametrize("name", ["standard", "ntk", "own"])
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.02)])
def test_groups_of_a_plain_optimizer_equal_the_packed_trainer_run_for_run(
    name: str, momentum: float, decay: float, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data = make_data()
    base = make_run(parameterization=name, momentum=momentum, weight_decay=decay, depth=2, init_scale=1.5)
    runs = [replace(base, seed=seed, learning_rate=rate) for seed, rate in ((0, 0.05), (1, 0.02))]
    trainer = make_trainer(runs, data)
    trainer.advance()
    for position, run in enumerate(runs):
        torch.manual_seed(run.seed)
        model = mlp(run.width, (7,), 4, depth=2, activation="relu").double()
        reference = mlp(2 * run.width, (7,), 4, depth=2, activation="relu")
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
        steps = [order[:, 0] for order in (index_block(run.sampling, [run.seed], block, 60, 8) for block in range(3))]
        for index in torch.cat(steps)[: run.steps]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.x_train[index].double()), data.y_train[index]).backward()
            optimizer.step()
        for parameter_name, tensor in model.named_parameters():
            packed = trainer.state.parameters[parameter_name][position]
            torch.testing.assert_close(tensor.detach(), packed, rtol=1e-10, atol=1e-12)
