"""The losses of batches equal torch's, in each kernel, for labels of examples and of tokens.

The tolerance of 1e-12 allows for another order of sums in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from noisescale.datasets import Dataset
from noisescale.errors import BadInput
from noisescale.runs import Run
from noisescale.training.kernels import Trial, choose_kernel
from noisescale.training.objectives import LabelObjective, Objective, class_weights, objective_of

RUNS, BATCH, LENGTH, KINDS = 3, 6, 5, 7
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 0.1, 3.0, 1.0, 0.7], dtype=torch.float64)


class Tokens(nn.Module):
    """Maps tokens [B, T] to outputs [B, T, K]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(KINDS, 4)
        self.norm, self.out = nn.LayerNorm(4), nn.Linear(4, KINDS)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.norm(self.embedding(tokens)).tanh())  # type: ignore[no-any-return]


def vectors() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, KINDS))


def packed(make: Callable[[], nn.Module]) -> dict[str, Tensor]:
    torch.manual_seed(3)
    modules = [make().double() for _ in range(RUNS)]
    return {
        name: torch.stack([dict(module.named_parameters())[name].detach() for module in modules])
        for name, _ in modules[0].named_parameters()
    }


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignored", [None, 2, -100])
@pytest.mark.parametrize("kernel", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("per_token", [False, True], ids=["examples", "tokens"])
def test_cross_entropy_equals_torch(
    weights: Tensor | None, smoothing: float, ignored: int | None, kernel: str, per_token: bool
) -> None:
    make: Callable[[], nn.Module] = Tokens if per_token else vectors
    parameters, generator = packed(make), torch.Generator().manual_seed(0)
    shape = (RUNS, BATCH, LENGTH) if per_token else (RUNS, BATCH)
    labels = torch.randint(KINDS, shape, generator=generator)
    if ignored == -100:
        labels[:, ::2] = -100
    inputs = (
        torch.randint(KINDS, shape, generator=generator)
        if per_token
        else torch.randn(RUNS, BATCH, 4, generator=generator, dtype=torch.float64)
    )
    objective = LabelObjective(weights, smoothing, ignored)
    trial = Trial(parameters, {}, inputs, labels)
    computed = choose_kernel(make().double(), objective, trial, kernel).kernel
    losses, gradients = computed.losses_and_gradients(parameters, {}, inputs, labels)
    assert losses is not None
    loss = nn.CrossEntropyLoss(weights, ignore_index=-100 if ignored is None else ignored, label_smoothing=smoothing)
    module = make().double()
    for run in range(RUNS):
        leaves = {name: tensor[run].clone().requires_grad_() for name, tensor in parameters.items()}
        outputs = torch.func.functional_call(module, leaves, (inputs[run],))
        expected = loss(outputs.flatten(0, -2), labels[run].flatten())
        torch.testing.assert_close(losses[run], expected.detach(), rtol=1e-12, atol=1e-12)
        for name, gradient in zip(leaves, torch.autograd.grad(expected, list(leaves.values())), strict=True):
            torch.testing.assert_close(gradients[name][run], gradient, rtol=1e-11, atol=1e-12)


def test_parts_of_a_batch_have_their_share_of_its_weights() -> None:
    objective = LabelObjective(WEIGHTS, 0.1, 2)
    outputs = torch.randn(RUNS, BATCH, KINDS, dtype=torch.float64)
    labels = torch.randint(KINDS, (RUNS, BATCH), generator=torch.Generator().manual_seed(1))
    parts = [slice(0, 2), slice(2, 3), slice(3, 6)]
    total = sum(
        objective.share(labels[:, part], labels) * objective.of_runs(outputs[:, part], labels[:, part])
        for part in parts
    )
    torch.testing.assert_close(total, objective.of_runs(outputs, labels), rtol=1e-12, atol=1e-12)


def test_a_batch_whose_targets_are_all_ignored_has_the_loss_and_the_gradient_0() -> None:
    objective = LabelObjective(None, 0.0, 0)
    outputs = torch.randn(1, BATCH, KINDS, requires_grad=True)
    loss = objective.of_runs(outputs, torch.zeros(1, BATCH, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(loss.sum(), outputs)
    assert float(loss.detach()) == 0.0 and not gradient.any()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_no_constant_output_is_better_than_the_constant_predictor(weights: Tensor | None, smoothing: float) -> None:
    objective = LabelObjective(weights, smoothing, 1)
    labels = torch.randint(KINDS, (200, 3), generator=torch.Generator().manual_seed(2))
    best = objective.of_constant(labels)
    output = torch.zeros(KINDS, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([output], max_iter=300, line_search_fn="strong_wolfe")

    def mean() -> Tensor:
        return objective.of_run(output.expand(200, 3, -1), labels)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    assert best == pytest.approx(float(mean().detach()), rel=1e-6)


def test_losses_of_examples_have_the_loss_of_the_set_as_their_mean() -> None:
    objective = LabelObjective(WEIGHTS, 0.1, 2)
    outputs = torch.randn(40, LENGTH, KINDS, dtype=torch.float64)
    labels = torch.randint(KINDS, (40, LENGTH), generator=torch.Generator().manual_seed(4))
    of_examples = objective.per_example(labels)(outputs, labels)
    assert of_examples.shape == (40,)
    torch.testing.assert_close(of_examples.mean(), objective.of_run(outputs, labels), rtol=1e-12, atol=1e-12)


def labelled(labels: list[int], classes: int) -> Dataset:
    x, y = torch.zeros(len(labels), 2), torch.tensor(labels)
    return Dataset("made", x, y, x[:0], y[:0], x, y, (2,), classes, 0.5, "0")


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    weights = class_weights("balanced", labels, 3)
    assert weights is not None
    assert [float(weights[label] * (labels == label).sum()) for label in range(3)] == pytest.approx([2, 2, 2])
    assert class_weights("", labels, 3) is None
    ignoring = class_weights("balanced", labels, 3, ignore_index=0)
    assert ignoring is not None and ignoring.tolist() == pytest.approx([1, 1.5, 0.75])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"class_weights": "balanced"},
            r"training\.class_weights: .*every class has .*none of class 1",
        ),
        ({"class_weights": "[1.0, 2.0]"}, r"training\.class_weights: a weight for each of the 3 classes.*2"),
        ({"ignore_index": 0}, r"training\.ignore_index: a label that leaves some targets"),
    ],
)
def test_options_that_the_labels_do_not_allow_are_refused(
    make_run: Callable[..., Run], options: dict[str, Any], message: str
) -> None:
    labels = [0, 0, 2] if "class_weights" in options else [0, 0, 0]
    with pytest.raises(BadInput, match=message):
        objective_of(replace(make_run(), **options), labelled(labels, 3))


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.huber_loss(outputs, targets, reduction="none").sum(-1)


def branching(outputs: Tensor, targets: Tensor) -> Tensor:
    values = (outputs - targets).square().sum(-1)
    return values if float(values.mean().detach()) > 0.5 else values / 2


@pytest.mark.parametrize(("function", "packs"), [("huber", True), ("branching", False)])
def test_a_loss_of_the_user_is_the_mean_of_its_values(make_run: Callable[..., Run], function: str, packs: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    targets = torch.randn(RUNS, BATCH, KINDS, generator=generator, dtype=torch.float64)
    data = Dataset("m", targets[0], targets[0], targets[0], targets[0], targets[0], targets[0], (7,), 7, 0.0, "0")
    objective: Objective = objective_of(replace(make_run(), loss=f"{__name__}:{function}"), data)
    parameters, inputs = packed(vectors), torch.randn(RUNS, BATCH, 4, generator=generator, dtype=torch.float64)
    choice = choose_kernel(vectors().double(), objective, Trial(parameters, {}, inputs, targets), "auto")
    assert (not choice.note) == packs and choice.kernel.name in ("vmap", "loop")
    _, gradients = choice.kernel.losses_and_gradients(parameters, {}, inputs, targets)
    compute, module = globals()[function], vectors().double()
    for run in range(RUNS):
        leaves = {name: tensor[run].clone().requires_grad_() for name, tensor in parameters.items()}
        outputs = torch.func.functional_call(module, leaves, (inputs[run],))
        expected = torch.autograd.grad(compute(outputs, targets[run]).mean(), list(leaves.values()))
        for name, gradient in zip(leaves, expected, strict=True):
            torch.testing.assert_close(gradients[name][run], gradient, rtol=1e-11, atol=1e-12)
