"""Modules that cannot be packed. The message names the operation, and the runs are trained one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from noisescale.training import PackTrainer

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun


class Branching(nn.Module):
    """Branches on a value, which a vectorized pass over several runs cannot do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.read_out = nn.Linear(7, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x)
        return self.read_out(torch.relu(hidden) if hidden.sum().item() > 0 else torch.tanh(hidden))


def branching(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return Branching(width)


def dropping(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(7, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 4))


def plain(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(7, width), nn.GELU(), nn.Linear(width, 4))


def test_the_message_names_the_operation_and_the_runs_are_trained(make_run: MakeRun, make_data: MakeData) -> None:
    runs = [make_run(seed=seed, steps=30) for seed in range(3)]
    trainer = PackTrainer(runs, make_data(), branching, reference_width=32)
    assert trainer.kernel == "loop" and not trainer.choice_is_measured
    assert "one at a time" in trainer.note and "Branching" in trainer.note and ".item()" in trainer.note
    trainer.advance()
    alone = PackTrainer(runs[1:2], make_data(), branching, reference_width=32)
    alone.advance()
    assert trainer.results()[1].final == alone.results()[0].final


def test_random_operations_depend_only_on_the_seed_of_the_run(make_run: MakeRun, make_data: MakeData) -> None:
    runs = [make_run(seed=seed, steps=30) for seed in (3, 4)]
    packs = (runs, runs[1:], runs[::-1])
    trainers = [PackTrainer(pack, make_data(), dropping, reference_width=32, kernel="vmap") for pack in packs]
    before = torch.get_rng_state()
    for trainer in trainers:
        trainer.advance()
    assert torch.equal(torch.get_rng_state(), before)
    assert trainers[0].note == ""
    together, alone, turned = (trainer.results() for trainer in trainers)
    assert together[1].final == alone[0].final == turned[0].final
    assert together[0].final != together[1].final


def test_an_interrupted_run_with_dropout_equals_an_uninterrupted_run(make_run: MakeRun, make_data: MakeData) -> None:
    straight, broken = (PackTrainer([make_run(steps=30)], make_data(), dropping, reference_width=32) for _ in range(2))
    straight.advance()
    broken.advance(11)
    broken.advance()
    assert straight.results()[0].final == broken.results()[0].final


def test_the_kernel_of_a_packable_module_is_measured_and_has_no_note(make_run: MakeRun, make_data: MakeData) -> None:
    trainer = PackTrainer([make_run(seed=seed) for seed in range(3)], make_data(), plain, reference_width=32)
    assert trainer.choice_is_measured and trainer.note == "" and trainer.kernel in ("vmap", "loop")


def test_an_unknown_kernel_is_refused(make_run: MakeRun, make_data: MakeData) -> None:
    with pytest.raises(ValueError, match="vmap, unfolded, loop"):
        PackTrainer([make_run()], make_data(), plain, reference_width=32, kernel="fast")


class Shrinking(nn.Module):
    """Changes its weights in each pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.read_out = nn.Linear(7, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.hidden.weight.mul_(0.5)
        return self.read_out(self.hidden(x).relu())


@pytest.mark.parametrize("count", [1, 3])
def test_the_trials_of_kernels_leave_the_initial_weights(count: int, make_run: MakeRun, make_data: MakeData) -> None:
    def model(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        return Shrinking(width)

    runs = [make_run(seed=seed, steps=30, parameterization="own", family="own:own") for seed in range(count)]
    trainer = PackTrainer(runs, make_data(), model, reference_width=32)
    torch.manual_seed(0)
    expected = Shrinking(runs[0].width).hidden.weight
    torch.testing.assert_close(
        trainer.state.parameters["hidden.weight"][0], expected.to(torch.float64), check_dtype=False
    )


class Counting(nn.Module):
    """Moves a buffer in every pass, also in evaluation mode."""

    mean: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.read_out = nn.Linear(7, width), nn.Linear(width, 4)
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x)
        self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
        return self.read_out((hidden - self.mean).tanh())


@pytest.mark.parametrize("kernel", ["loop", "vmap"])
def test_a_buffer_that_moves_in_evaluation_reaches_no_other_run(
    kernel: str, make_run: MakeRun, make_data: MakeData
) -> None:
    def model(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        return Counting(width)

    runs = [make_run(seed=seed, steps=30) for seed in range(3)]
    finals = []
    for pack in (runs, runs[1:2]):
        trainer = PackTrainer(pack, make_data(), model, reference_width=32, kernel=kernel)
        trainer.advance()
        finals.append(trainer.results())
    assert finals[0][1].final == pytest.approx(finals[1][0].final, rel=1e-9)
