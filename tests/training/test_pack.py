"""Training of a pack: runs alone and together, interruption and resumption, and refused input."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from noisescale.datasets import Dataset
from noisescale.errors import BadInput
from noisescale.families import ModelOptions, family_factory
from noisescale.runs import Run
from noisescale.training import PackState, PackTrainer
from noisescale.training.late_window import average_steps
from noisescale.training.memory import part_size, runs_in_memory

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer


def weights_of(trainer: PackTrainer, position: int) -> list[torch.Tensor]:
    return [tensor[position] for tensor in trainer.state.parameters.values()]


@pytest.mark.parametrize("kernel", ["auto", "vmap", "loop"])
@pytest.mark.parametrize(("precision", "steps", "tolerance"), [("float64", 50, 1e-12), ("float32", 5, 1e-5)])
def test_a_run_alone_equals_the_same_run_in_a_pack(
    kernel: str,
    precision: str,
    steps: int,
    tolerance: float,
    make_run: MakeRun,
    make_data: MakeData,
    make_trainer: MakeTrainer,
) -> None:
    base = make_run(precision=precision, steps=steps, depth=2, parameterization="ntk")
    runs = [
        replace(base, seed=seed, learning_rate=rate, momentum=momentum)
        for seed, rate, momentum in [(0, 0.1, 0.0), (1, 0.4, 0.9), (1, 0.2, 0.0), (7, 0.1, 0.5)]
    ]
    pack = make_trainer(runs, make_data(), kernel=kernel)
    pack.advance()
    for position, run in enumerate(runs):
        alone = make_trainer([run], make_data(), kernel=kernel)
        alone.advance()
        for actual, single in zip(weights_of(pack, position), weights_of(alone, 0), strict=True):
            torch.testing.assert_close(actual, single, rtol=tolerance, atol=tolerance)


def test_a_pack_in_several_parts_equals_one_part(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run(seed=seed, momentum=0.9 * (seed == 4), steps=30) for seed in range(5)]
    whole = make_trainer(runs, make_data())
    whole.advance()
    # Room for two runs, each with 204 parameters and 8·(7 + 20) activations in float64.
    monkeypatch.setattr("noisescale.training.memory.PART_BYTES", 2 * 8 * (204 + 8 * 27))
    parts = make_trainer(runs, make_data())
    parts.advance()
    assert part_size(parts.state.parameters, 8, parts._footprint.kept) == 2
    for name, tensor in whole.state.parameters.items():
        torch.testing.assert_close(parts.state.parameters[name], tensor, rtol=1e-12, atol=1e-12)


def test_parts_are_equal_and_hold_at_least_one_run() -> None:
    # A run has 100·40 parameters and 2·140 activations in float32, so 122 runs fit into 2 MiB.
    assert part_size({"w": torch.zeros(122, 100, 40)}, 2, 140) == 122
    assert part_size({"w": torch.zeros(123, 100, 40)}, 2, 140) == 62
    assert part_size({"w": torch.zeros(2, 1000, 1000)}, 2, 140) == 1


def test_a_run_with_infinite_initial_weights_has_diverged_at_step_0(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    runs = [make_run(steps=20, precision="float32", init_scale=scale) for scale in (2.0, 1e60)]
    trainer = make_trainer(runs, make_data())
    trainer.advance()
    sound, broken = trainer.results()
    assert (sound.status, sound.diverged_at_step) == ("completed", None)
    assert (broken.status, broken.diverged_at_step) == ("diverged", 0)


def test_stability_runs_are_evaluated_on_random_examples_even_if_the_data_are_sorted_by_class(
    make_run: MakeRun, make_trainer: MakeTrainer, make_data: MakeData
) -> None:
    mixed = make_data(examples=3000)
    order = mixed.y_train.argsort()
    data = replace(mixed, x_train=mixed.x_train[order], y_train=mixed.y_train[order])
    # At a tiny rate the network hardly changes, so its accuracy stays at chance.
    runs = [make_run(purpose="stability", learning_rate=1e-12, steps=5, seed=seed) for seed in range(4)]
    trainer = make_trainer(runs, data)
    trainer.advance()
    for result in trainer.results():
        assert 0.2 < result.chance["accuracy"] < 0.32
        assert 0.1 < result.final["train_accuracy"] < 0.45


def test_a_run_does_not_change_when_another_run_of_the_pack_diverges(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    calm = make_run(steps=60, loss="mse", learning_rate=0.02)
    wild = replace(calm, learning_rate=1e6, seed=1)
    together, apart = make_trainer([calm, wild], make_data()), make_trainer([calm, calm], make_data())
    together.advance()
    apart.advance()
    for actual, expected in zip(weights_of(together, 0), weights_of(apart, 0), strict=True):
        assert torch.equal(actual, expected)
    assert [result.status for result in together.results()] == ["completed", "diverged"]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("cuts", [(0,), (3,), (7,), (14,), (25,), (4, 5, 17, 20)])
def test_resumed_equals_uninterrupted_to_the_bit(
    momentum: float, cuts: tuple[int, ...], make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    # An epoch has seven steps, and evaluations are at steps 10, 20 and 30. The cuts are within an epoch, at the end of
    # an epoch and at an evaluation.
    base = make_run(steps=30, evaluations=3, loss="mse", momentum=momentum, precision="float32", weight_decay=0.01)
    check_resumed(base, make_data(), cuts, make_trainer)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": 'cosine of="batch_size"', "nesterov": True, "momentum": 0.9, "learning_rate": 0.01},
        {"schedule": "random pieces=4", "weight_decay": 0.1, "decay": "decoupled", "sampling": "subset"},
        {"average": True, "clip_norm": 0.1, "schedule": "constant warmup=0.3"},
        {"family": "convnet", "normalization": "batch", "width": 4, "augmentation": "flip crop", "average": True},
    ],
)
def test_resumed_with_any_option_equals_uninterrupted_to_the_bit(
    changes: dict[str, Any], make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    base = make_run(**{"steps": 60, "evaluations": 3, "loss": "mse", "precision": "float32", **changes})
    check_resumed(base, make_data((1, 8, 8)), (4, 31, 55, 60), make_trainer)


def check_resumed(base: Run, data: Dataset, cuts: tuple[int, ...], make_trainer: MakeTrainer) -> None:
    """Compare a trainer that is saved and rebuilt at every cut with an uninterrupted trainer."""
    runs = [base, replace(base, seed=2, learning_rate=1e8), replace(base, seed=1, learning_rate=0.02)]
    straight = make_trainer(runs, data)
    straight.advance()
    trainer = make_trainer(runs, data, kernel=straight.choice)
    for cut in cuts:
        trainer.advance(cut)
        file = io.BytesIO()
        torch.save(trainer.state.as_dict(), file)
        file.seek(0)
        trainer = make_trainer(runs, data, kernel=straight.choice)
        trainer.state = PackState.from_dict(torch.load(file, weights_only=True))
    trainer.advance()
    assert not straight.state.frozen[0] and straight.state.frozen[1]
    for name, tensor in straight.state.parameters.items():
        assert torch.equal(tensor, trainer.state.parameters[name])
    for actual, expected in zip(trainer.results(), straight.results(), strict=True):
        assert repr(replace_seconds(actual.curves)) == repr(replace_seconds(expected.curves))
        assert repr(actual.averaged) == repr(expected.averaged) and bool(actual.averaged) == base.average
        assert actual.diverged_at_step == expected.diverged_at_step


def test_a_trainer_with_a_time_limit_returns_early_and_can_continue(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noisescale.training.pack_trainer._LOOK_SECONDS", 1e-9)
    runs = [make_run(steps=60, precision="float32", average=True)]
    straight, hurried = make_trainer(runs, make_data()), make_trainer(runs, make_data())
    straight.advance()
    calls = 0
    while not hurried.done:
        hurried.advance(seconds=0.0)
        calls += 1
    assert calls > 10
    for name, tensor in straight.state.parameters.items():
        assert torch.equal(tensor, hurried.state.parameters[name])
    assert straight.results()[0].averaged == hurried.results()[0].averaged


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_the_exponential_average_equals_torchs(
    decay: float, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    run = make_run(steps=40, average=True, average_decay=decay, evaluations=2)
    runs, dataset = [run, replace(run, seed=1)], make_data()
    trainer, resumed = make_trainer(runs, dataset), make_trainer(runs, dataset)
    model = nn.Module()
    averaged = None
    for step in range(1, 41):
        trainer.advance(step)
        model.weights = nn.ParameterList([tensor.clone() for tensor in trainer.state.parameters.values()])
        averaged = averaged or AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        averaged.update_parameters(model)
        if step == 17:
            resumed.state = PackState.from_dict(copy.deepcopy(trainer.state.as_dict()))
    assert averaged is not None
    resumed.advance()
    for (name, average), expected in zip(trainer.state.averages.items(), averaged.parameters(), strict=True):
        torch.testing.assert_close(average, expected.detach(), rtol=0, atol=1e-9)
        assert torch.equal(average, resumed.state.averages[name])
    alone = make_trainer([run], dataset)
    alone.state.parameters.update({name: tensor[:1] for name, tensor in trainer.state.averages.items()})
    alone.advance(0)
    expected_loss = float(alone.state.curves["test_loss"][0][0])
    assert trainer.results()[0].averaged["averaged_test_loss"] == pytest.approx(expected_loss, rel=1e-12)


@pytest.mark.parametrize("steps", [2, 24, 1000])
def test_the_average_is_the_mean_of_the_late_iterates(
    steps: int, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    run = make_run(steps=steps, average=True, evaluations=2, sampling="subset")
    trainer = make_trainer([run, replace(run, seed=1)], make_data())
    at = average_steps(round(0.75 * steps), steps)
    assert at[-1] == steps and at[0] > 0.75 * steps - 1 and len(at) <= 12
    iterates: list[dict[str, torch.Tensor]] = []
    for step in at:
        trainer.advance(step)
        iterates.append({name: tensor.clone() for name, tensor in trainer.state.parameters.items()})
    for name, average in trainer.state.averages.items():
        torch.testing.assert_close(average, torch.stack([one[name] for one in iterates]).mean(0))
    alone = make_trainer([run], make_data())
    alone.state.parameters.update({name: tensor[:1] for name, tensor in trainer.state.averages.items()})
    alone.advance(0)
    expected = float(alone.state.curves["test_loss"][0][0])
    result = trainer.results()[0]
    assert result.averaged["averaged_test_loss"] == pytest.approx(expected, rel=1e-12)
    assert set(result.averaged) == {f"averaged_{name}" for name in trainer.state.curves}


def replace_seconds(curves: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: values for name, values in curves.items() if name != "seconds"}


def test_training_continues_from_a_copy_of_the_state(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer([make_run(momentum=0.9)], make_data())
    trainer.advance(5)
    early = copy.deepcopy(trainer.state)
    trainer.advance(20)
    assert early.step == 5 and early.evaluated_steps == [0]
    again = make_trainer([make_run(momentum=0.9)], make_data())
    again.state = early
    again.advance(20)
    for actual, expected in zip(weights_of(trainer, 0), weights_of(again, 0), strict=True):
        assert torch.equal(actual, expected)


def test_restoring_an_earlier_state_unfreezes_a_run_that_diverged_later(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    runs = [make_run(loss="mse", learning_rate=rate, steps=60) for rate in (0.02, 50.0)]
    trainer = make_trainer(runs, make_data())
    trainer.advance(1)
    early = copy.deepcopy(trainer.state)
    trainer.advance(60)
    assert trainer.state.frozen[1]
    trainer.state = early
    before = weights_of(trainer, 1)[0].clone()
    trainer.advance(2)
    assert not torch.equal(before, weights_of(trainer, 1)[0])


def test_chance_loss_is_the_loss_of_the_best_constant_output(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data = make_data()
    shares = torch.bincount(data.y_train).double() / len(data.y_train)
    entropy = float(-(shares * shares.log()).sum())
    for loss, expected in (("cross_entropy", entropy), ("mse", float(0.5 * (1 - shares.square().sum())))):
        trainer = make_trainer([make_run(loss=loss, steps=1)], data)
        trainer.advance()
        assert trainer.results()[0].chance["loss"] == pytest.approx(expected, rel=1e-12)


def test_results_contain_curves_means_and_layers(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    runs = [make_run(steps=40, evaluations=4, late_fraction=0.5, seed=seed) for seed in (0, 1)]
    trainer = make_trainer(runs, make_data())
    trainer.advance()
    for run, result in zip(runs, trainer.results(), strict=True):
        assert result.run == run
        assert result.curves["step"] == [0.0, 10.0, 20.0, 30.0, 40.0]
        accuracies = result.curves["test_accuracy"]
        assert result.late_means["test_accuracy"] == pytest.approx(sum(accuracies[3:]) / 2)
        expected_drift = (sum(accuracies[3:]) - sum(accuracies[1:3])) / 2
        assert result.drifts["test_accuracy"] == pytest.approx(expected_drift, abs=1e-12)
        assert result.final["test_accuracy"] == accuracies[-1]
        assert result.best_test_accuracy == max(accuracies)
        assert [row["layer"] for row in result.layers if row["is_reference"]] == ["3.weight"]
        assert result.seconds > 0


def test_a_stability_run_is_evaluated_only_on_the_training_set(make_run: MakeRun, make_data: MakeData) -> None:
    factory = family_factory(ModelOptions("mlp"))
    trainer = PackTrainer([make_run(purpose="stability")], make_data(), factory, reference_width=8)
    trainer.advance()
    result = trainer.results()[0]
    assert result.curves.keys() == {"step", "train_loss", "train_accuracy"}


def test_own_keeps_the_initial_values_of_the_module_built_with_the_seed(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    runs: list[Run] = [make_run(parameterization="own", seed=seed) for seed in (4, 9)]
    before = torch.get_rng_state()
    trainer = make_trainer(runs, make_data())
    assert torch.equal(before, torch.get_rng_state()), "training must not use the global generator"
    for position, run in enumerate(runs):
        torch.manual_seed(run.seed)
        first = nn.Linear(7, 16)
        assert torch.equal(trainer.state.parameters["1.weight"][position], first.weight.detach().double())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 61}, "grid.batch_size"),
        ({"loss": "hinge"}, "training.loss"),
        ({"parameterization": "ntkk"}, "did you mean 'ntk'"),
        ({"activation": "gelu"}, "model.activation"),
        ({"family": "mlpp"}, "did you mean 'mlp'"),
    ],
)
def test_runs_that_cannot_be_trained_are_refused(
    changes: dict[str, object], named: str, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(BadInput, match=named):
        make_trainer([make_run(**changes)], make_data())


def test_cross_entropy_is_refused_for_real_targets(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(BadInput, match="'mse' or 'binary_cross_entropy' for real-valued targets"):
        make_trainer([make_run()], make_data(real=True))


def test_runs_of_different_shapes_are_refused(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(BadInput, match="differ only in"):
        make_trainer([make_run(), make_run(width=17)], make_data())


def test_the_number_of_runs_in_a_gpus_memory_follows_from_two_peaks() -> None:
    # 100 bytes for the pack and 10 bytes for each run: 60 % of 1,000 bytes suffice for 50 runs.
    assert runs_in_memory(lambda runs: 100 + 10 * runs, 1000, 400) == 50
    assert runs_in_memory(lambda runs: 100 + 10 * runs, 1000, 7) == 7
    assert runs_in_memory(lambda runs: 5000 * runs, 1000, 7) == 1
    assert runs_in_memory(lambda runs: 100, 1000, 1) == 1
