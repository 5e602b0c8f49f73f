"""The metrics of evaluation sets equal scikit-learn's, however the set is split into chunks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import Tensor
from torch.nn import functional

from noisescale.errors import BadInput
from noisescale.training.evaluation import evaluate
from noisescale.training.losses import LOSSES
from noisescale.training.metrics import METRICS, check_metric, check_metric_of, metric_name, metrics_of
from noisescale.training.objectives import LabelObjective, RowObjective, UserObjective
from noisescale.training.split import Split

RUNS, EXAMPLES, LENGTH, KINDS = 2, 301, 3, 4


class Fixed:
    """A kernel whose outputs are given, by the number of each example in its inputs."""

    name = "fixed"

    def __init__(self, outputs: Tensor) -> None:
        self._outputs = outputs

    def outputs(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        run = int(parameters["run"][0])
        return self._outputs[run : run + 1, inputs.flatten().long()]


def evaluated(outputs: Tensor, split: Split, metric: str, objective: object) -> list[float]:
    metrics = metrics_of(objective, "" if metric in ("loss", "accuracy") else metric)  # type: ignore[arg-type]
    parameters = {"run": torch.arange(float(RUNS)).unsqueeze(1)}
    # Chunks of 64 examples, the last one smaller.
    values = evaluate(Fixed(outputs), metrics, parameters, {}, split, 10**6)  # type: ignore[arg-type]
    return [float(value) for value in values[metric]]


def labels_and_outputs(per_token: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (EXAMPLES, LENGTH) if per_token else (EXAMPLES,)
    labels = torch.randint(KINDS, shape, generator=generator)
    outputs = torch.randn(RUNS, *shape, KINDS, generator=generator, dtype=torch.float64)
    return labels, outputs + 2 * functional.one_hot(labels, KINDS)


NUMBERS = torch.arange(float(EXAMPLES))
SKLEARN = {
    "accuracy": sklearn.metrics.accuracy_score,
    "balanced_accuracy": lambda true, predicted: sklearn.metrics.recall_score(
        true, predicted, labels=true.unique(), average="macro"
    ),
    "f1_macro": lambda true, predicted: sklearn.metrics.f1_score(true, predicted, average="macro"),
}


@pytest.mark.parametrize("metric", SKLEARN)
@pytest.mark.parametrize("ignored", [None, 1])
@pytest.mark.parametrize("per_token", [False, True])
def test_metrics_of_classes_equal_scikit_learn(metric: str, ignored: int | None, per_token: bool) -> None:
    labels, outputs = labels_and_outputs(per_token)
    split = Split(NUMBERS, labels, labels, ignored)
    values = evaluated(outputs, split, metric, LabelObjective(None, 0.0, ignored))
    counted = torch.ones_like(labels, dtype=torch.bool) if ignored is None else labels != ignored
    for run, value in enumerate(values):
        predicted = outputs[run].argmax(-1)
        assert value == pytest.approx(SKLEARN[metric](labels[counted], predicted[counted]), rel=1e-12)


@pytest.mark.parametrize("ignored", [None, 1])
def test_perplexity_and_the_loss_are_those_of_the_whole_set(ignored: int | None) -> None:
    labels, outputs = labels_and_outputs(per_token=True)
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    split = Split(NUMBERS, labels, labels, ignored)
    index = -100 if ignored is None else ignored
    perplexity = evaluated(outputs, split, "perplexity", LabelObjective(weights, 0.1, ignored))
    losses = evaluated(outputs, split, "loss", LabelObjective(weights, 0.1, ignored))
    for run in range(RUNS):
        items = outputs[run].flatten(0, 1), labels.flatten()
        plain = functional.cross_entropy(*items, ignore_index=index)
        assert math.log(perplexity[run]) == pytest.approx(float(plain), rel=1e-12)
        assert losses[run] == pytest.approx(
            float(functional.cross_entropy(*items, weights, ignore_index=index, label_smoothing=0.1)), rel=1e-12
        )


@pytest.mark.parametrize("constants", [(), (0.0,), (0.25, 1024.0)])
def test_r2_equals_scikit_learn(constants: tuple[float, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randn(EXAMPLES, KINDS, generator=generator, dtype=torch.float64)
    for column, value in enumerate(constants):
        targets[:, column] = value
    outputs = targets + 0.3 * torch.randn(RUNS, EXAMPLES, KINDS, generator=generator, dtype=torch.float64)
    split = Split(NUMBERS, targets, None)
    values = evaluated(outputs, split, "r2", RowObjective(LOSSES["mse"]))
    for run, value in enumerate(values):
        assert value == pytest.approx(sklearn.metrics.r2_score(targets, outputs[run]), rel=1e-10)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "f1_macro"])
def test_several_labels_of_an_example_are_predicted_one_by_one(metric: str) -> None:
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(2, (EXAMPLES, KINDS), generator=generator)
    outputs = torch.randn(RUNS, EXAMPLES, KINDS, generator=generator, dtype=torch.float64) + labels
    split = Split(NUMBERS, labels.double(), labels, multi_label=True)
    values = evaluated(outputs, split, metric, RowObjective(LOSSES["binary_cross_entropy"]))
    for run, value in enumerate(values):
        predicted = (outputs[run] > 0).long()
        expected = {
            "accuracy": (predicted == labels).double().mean(),
            "balanced_accuracy": np.mean(
                [sklearn.metrics.balanced_accuracy_score(labels[:, k], predicted[:, k]) for k in range(KINDS)]
            ),
            "f1_macro": sklearn.metrics.f1_score(labels, predicted, average="macro"),
        }[metric]
        assert value == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "f1_macro", "perplexity", "r2"])
def test_the_constant_predictor_reaches_what_is_stated(metric: str) -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    if metric == "r2":
        targets = torch.randn(6, 2, dtype=torch.float64)
        split = Split(NUMBERS[:6], targets, None)
        outputs = targets.mean(0).expand(1, 6, 2)
    else:
        split = Split(NUMBERS[:6], labels, labels)
        outputs = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64).log().expand(1, 6, 3)
    row = METRICS[metric]
    assert row.sums is not None
    assert float(row.of_sums(row.sums(outputs, split))[0]) == pytest.approx(row.constant(split), abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_to_predict_every_label_is_no_better_than_chance(share: float) -> None:
    """The second label belongs to no example if the share is 0, so it has one class only."""
    labels = torch.zeros(50, 2, dtype=torch.long)
    labels[:10, 0] = 1
    labels[: int(50 * share), 1] = 1
    split = Split(NUMBERS[:50], labels.double(), labels, multi_label=True)
    row = METRICS["balanced_accuracy"]
    assert row.sums is not None
    for sign in (-1.0, 1.0):
        outputs = torch.tensor([[sign, -1.0]], dtype=torch.float64).expand(1, 50, 2)
        value = float(row.of_sums(row.sums(outputs, split))[0])
        assert value == pytest.approx(0.5 if share else 2 / 3)
        assert value == pytest.approx(row.constant(split))


def right_labels(outputs: Tensor, targets: Tensor) -> float:
    return float(((outputs > 0) == targets).double().mean())


def test_the_constant_predictor_of_a_users_metric_knows_that_outputs_are_logits() -> None:
    labels = torch.zeros(40, 3, dtype=torch.long)
    labels[:2] = 1
    split = Split(NUMBERS[:40], labels.double(), labels, multi_label=True)
    assert METRICS[f"{__name__}:right_labels"].constant(split) == pytest.approx(0.95)


def correlation(outputs: Tensor, targets: Tensor) -> float:
    predicted = outputs[:, 0].numpy()
    return float(np.corrcoef(predicted, targets.numpy())[0, 1]) if np.ptp(predicted) else math.nan


def test_a_metric_without_a_value_for_constant_outputs_has_no_constant_predictor() -> None:
    targets = torch.randn(EXAMPLES, dtype=torch.float64)
    split = Split(NUMBERS, targets, None)
    name = f"{__name__}:correlation"
    assert math.isnan(METRICS[name].constant(split))
    outputs = targets.view(1, -1, 1) * torch.tensor([[[1.0]], [[-1.0]]])
    assert evaluated(outputs, split, name, RowObjective(LOSSES["mse"])) == [pytest.approx(1), pytest.approx(-1)]


def outputs_of_five_classes(outputs: Tensor, targets: Tensor) -> float:
    assert outputs.shape[-1] == 5
    return float((outputs.argmax(-1) == targets).double().mean())


def test_a_constant_output_has_as_many_entries_as_the_model_has_outputs() -> None:
    labels = torch.tensor([0, 1, 1, 1])
    split = Split(NUMBERS[:4], labels, labels, num_classes=5)
    assert METRICS[f"{__name__}:outputs_of_five_classes"].constant(split) == 0.75


def loss_of_five_classes(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, torch.ones(5, dtype=outputs.dtype), reduction="none")


def test_the_constant_output_of_a_users_loss_has_as_many_entries_as_the_model_has_outputs() -> None:
    labels = torch.tensor([0, 1, 1, 1])
    expected = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert UserObjective(loss_of_five_classes, 5).of_constant(labels) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("targets", [torch.ones(4), torch.tensor([[1.0, 0.0], [1.0, 0.0]])])
def test_r2_needs_targets_that_vary(targets: Tensor) -> None:
    with pytest.raises(BadInput, match=r"fit\.metric: targets y_test that vary"):
        check_metric_of("r2", "y_test", targets)
    check_metric_of("loss", "y_test", targets)
    check_metric_of("r2", "y_test", torch.tensor([[1.0, 2.0], [1.0, 3.0]]))


def worst_label(outputs: Tensor, targets: Tensor) -> float:
    right = outputs.argmax(-1) == targets
    return float(np.mean([float((~right[targets == label]).double().mean()) for label in targets.unique()]))


def test_a_metric_of_the_user_sees_the_whole_set() -> None:
    labels, outputs = labels_and_outputs(per_token=False)
    name = metric_name(f"{__name__}:worst_label", "min")
    assert METRICS[name].direction == "min" and METRICS[name.removesuffix(":min")].direction == "max"
    split = Split(NUMBERS, labels, labels)
    values = evaluated(outputs, split, name, LabelObjective(None, 0.0, None))
    assert values == [pytest.approx(worst_label(outputs[run], labels)) for run in range(RUNS)]
    # Every constant prediction is wrong for all labels but one.
    assert METRICS[name].constant(split) == pytest.approx((KINDS - 1) / KINDS)


def fails(outputs: Tensor, targets: Tensor) -> float:
    raise RuntimeError("no metric today")


def test_an_error_of_a_users_metric_names_it() -> None:
    labels, outputs = labels_and_outputs(per_token=False)
    split = Split(NUMBERS, labels, labels)
    with pytest.raises(BadInput, match=r"fit\.metric: a number from .*fails.*no metric today"):
        evaluated(outputs, split, f"{__name__}:fails", LabelObjective(None, 0.0, None))


def test_metrics_that_the_targets_do_not_allow_are_refused() -> None:
    with pytest.raises(BadInput, match=r"fit\.metric"):
        check_metric("r2", torch.tensor([0, 1]))
    with pytest.raises(BadInput, match=r"fit\.metric"):
        check_metric("f1_macro", torch.tensor([0.5, 1.0]))
