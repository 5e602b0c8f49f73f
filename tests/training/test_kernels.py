"""The kernels, the losses and the evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families.mlp import mlp
from noisescale.families.plain_mlp import mlp_layers
from noisescale.training.evaluation import evaluate
from noisescale.training.kernels import Kernel, MLPKernel, Trial, choose_kernel
from noisescale.training.losses import LOSSES, target_rows
from noisescale.training.metrics import metrics_of
from noisescale.training.objectives import RowObjective
from noisescale.training.split import Split

RUNS, BATCH, INPUTS, OUTPUTS = 3, 5, 6, 4


def problem(depth: int = 2, activation: str = "relu") -> tuple[nn.Module, dict[str, Tensor], Tensor, Tensor]:
    torch.manual_seed(0)
    module = mlp(8, (INPUTS,), OUTPUTS, depth=depth, activation=activation).double()
    parameters = {
        name: torch.randn(RUNS, *tensor.shape, dtype=torch.float64) for name, tensor in module.named_parameters()
    }
    inputs = torch.randn(RUNS, BATCH, INPUTS, dtype=torch.float64)
    labels = torch.randint(OUTPUTS, (RUNS, BATCH))
    return module, parameters, inputs, labels


def choose(module: nn.Module, parameters: dict[str, Tensor], loss: str, kind: str) -> Kernel:
    trial = Trial(parameters, {}, torch.zeros(RUNS, 2, INPUTS).double(), torch.zeros(RUNS, 2, OUTPUTS).double())
    kernel = choose_kernel(module, RowObjective(LOSSES[loss]), trial, kind).kernel
    assert isinstance(kernel, MLPKernel) if kind == "auto" else kernel.name == kind
    return kernel


def mean_loss(loss: str, outputs: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    """Compute cross-entropy and squared error by explicit formulas, and other losses from their rows of the table."""
    if loss == "cross_entropy":
        return nn.functional.cross_entropy(outputs, labels)
    if loss == "mse":
        return 0.5 * (outputs - rows).square().sum(1).mean()
    return LOSSES[loss].per_example(outputs, rows).mean()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_losses_and_gradients_equal_those_of_autograd(loss: str, activation: str, kind: str, depth: int) -> None:
    module, parameters, inputs, labels = problem(depth, activation)
    rows = target_rows(labels, OUTPUTS, torch.float64)
    kernel = choose(module, parameters, loss, kind)
    before = {name: tensor.clone() for name, tensor in parameters.items()}
    losses, gradients = kernel.losses_and_gradients(parameters, {}, inputs, rows)
    _, without = kernel.losses_and_gradients(parameters, {}, inputs, rows, False)
    assert losses is not None and all(torch.equal(parameters[name], before[name]) for name in before)
    for run in range(RUNS):
        leaves = {name: tensor[run].clone().requires_grad_() for name, tensor in parameters.items()}
        outputs = torch.func.functional_call(module, leaves, (inputs[run],))
        expected = mean_loss(loss, outputs, labels[run], rows[run])
        torch.testing.assert_close(losses[run], expected.detach(), rtol=1e-12, atol=1e-12)
        for (name, _), gradient in zip(
            leaves.items(), torch.autograd.grad(expected, list(leaves.values())), strict=True
        ):
            torch.testing.assert_close(gradients[name][run], gradient, rtol=1e-11, atol=1e-11)
            assert torch.equal(without[name], gradients[name])


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.output_gradient is not None])
def test_output_gradients_are_the_derivatives_of_the_losses(loss: str) -> None:
    torch.manual_seed(1)
    outputs = (3 * torch.randn(2, 7, 5, dtype=torch.float64)).requires_grad_()
    targets = torch.softmax(torch.randn(2, 7, 5, dtype=torch.float64), -1)
    (expected,) = torch.autograd.grad(LOSSES[loss].per_example(outputs, targets).sum(), outputs)
    torch.testing.assert_close(LOSSES[loss].output_gradient(outputs.detach(), targets), expected)


def test_large_outputs_give_finite_losses() -> None:
    outputs, targets = torch.tensor([[1e30, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(LOSSES["cross_entropy"].per_example(outputs, targets)) == pytest.approx(1e30)
    assert LOSSES["cross_entropy"].output_gradient(outputs, targets).tolist() == [[1.0, -1.0]]


class Doubled(nn.Flatten):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("layers", "plain"),
    [
        ([nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)], True),
        ([nn.Flatten(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)], True),
        ([nn.Flatten(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)], False),
        ([nn.Flatten(), nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)], False),
        ([nn.Flatten(), nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)], False),
        ([nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU()], False),
        ([nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)], False),
        ([Doubled(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)], False),
        ([nn.Flatten(2), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)], False),
        ([nn.Flatten(), nn.Linear(3, 2)], False),
        ([nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)], False),
    ],
)
def test_only_plain_mlps_get_the_explicit_kernel(layers: list[nn.Module], plain: bool) -> None:
    assert (mlp_layers(nn.Sequential(*layers)) is not None) == plain


def test_an_mlp_that_uses_a_layer_twice_is_not_a_plain_mlp() -> None:
    shared = nn.Linear(4, 4)
    module = nn.Sequential(nn.Flatten(), shared, nn.ReLU(), shared)
    assert mlp_layers(module) is None


@pytest.mark.parametrize("kind", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("examples", [1, 70, 20_000])
def test_a_packed_evaluation_equals_the_evaluation_of_each_run(kind: str, examples: int) -> None:
    module, parameters, _, _ = problem()
    inputs, labels = torch.randn(examples, INPUTS, dtype=torch.float64), torch.randint(OUTPUTS, (examples,))
    kernel, metrics = (
        choose(module, parameters, "cross_entropy", kind),
        metrics_of(RowObjective(LOSSES["cross_entropy"])),
    )
    split = Split(inputs, target_rows(labels, OUTPUTS, torch.float64), labels)
    values = evaluate(kernel, metrics, parameters, {}, split, 8)
    for run in range(RUNS):
        of_run = {name: tensor[run] for name, tensor in parameters.items()}
        outputs = torch.func.functional_call(module, of_run, (inputs,))
        torch.testing.assert_close(values["loss"][run], nn.functional.cross_entropy(outputs, labels).detach())
        assert float(values["accuracy"][run]) == pytest.approx(float((outputs.argmax(1) == labels).double().mean()))
    real = evaluate(
        kernel, metrics_of(RowObjective(LOSSES["mse"])), parameters, {}, Split(inputs, split.targets, None), 8
    )
    assert real["accuracy"].isnan().all() and real["loss"].isfinite().all()


@pytest.mark.parametrize(("per_run", "together"), [((4.0, 2.0, 1.0), 4), ((4.0, 3.9, 1.0), 1), ((4.0, 2.0, 2.0), 2)])
def test_the_number_of_runs_at_once_grows_as_long_as_runs_get_faster(
    per_run: tuple[float, ...], together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, 3), nn.GELU(), nn.Linear(3, OUTPUTS)).double()
    parameters = {name: tensor.detach().expand(4, *tensor.shape) for name, tensor in module.named_parameters()}
    trial = Trial(parameters, {}, torch.ones(4, 2, INPUTS).double(), torch.ones(4, 2, OUTPUTS).double())

    def seconds(kernel: Kernel, trial: Trial) -> float:
        runs = len(trial.inputs)
        return 9.0 * runs if kernel.name == "loop" else runs * per_run[runs.bit_length() - 1]

    monkeypatch.setattr("noisescale.training.kernels.choose._step_seconds", seconds)
    choice = choose_kernel(module, RowObjective(LOSSES["mse"]), trial)
    assert choice.measured and choice.text == f"vmap {together}"
    again = choose_kernel(module, RowObjective(LOSSES["mse"]), trial, choice.text)
    assert again.text == choice.text and not again.measured


@pytest.mark.parametrize("kind", ["vmapp", "vmap x", "vmap -1", "2", ""])
def test_an_unknown_kernel_is_refused(kind: str) -> None:
    module, parameters, inputs, labels = problem()
    trial = Trial(parameters, {}, inputs, target_rows(labels, OUTPUTS, torch.float64))
    with pytest.raises(BadInput, match="kernel"):
        choose_kernel(module, RowObjective(LOSSES["mse"]), trial, kind)
