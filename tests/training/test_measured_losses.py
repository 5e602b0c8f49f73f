"""A pack measures the loss that its runs minimize: of tokens, weighted, of several labels, of the user.

The reference is `Problem` on the trained weights of each run, with torch's loss of all data in one call. Both are in
float64, so noise agrees to 1e-8. An eigenvalue has the error at which the instruments stop, 1e-6.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from noisescale import measure
from noisescale.datasets import Dataset
from noisescale.families import ModelOptions, family_factory
from noisescale.input_shapes import TokenShape
from noisescale.measure import Problem

if TYPE_CHECKING:
    from conftest import MakeRun, MakeTrainer

LENGTH, KINDS, EXAMPLES = 4, 5, 30
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 0.1, 3.0], dtype=torch.float64)
Loss = Callable[[Tensor, Tensor], Tensor]


def tokens() -> Dataset:
    x = torch.randint(KINDS, (EXAMPLES + 10, LENGTH + 1), generator=torch.Generator().manual_seed(1))
    return _dataset(x[:, :-1], x[:, 1:].contiguous(), TokenShape((LENGTH,), KINDS))


def vectors(targets: str) -> Dataset:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(EXAMPLES + 10, 6, generator=generator)
    labels = torch.randint(KINDS, (len(x),), generator=generator)
    real = {"labels": labels, "several": (x[:, :KINDS] > 0.3).float(), "numbers": x[:, :KINDS].square()}
    return _dataset(x, real[targets], (6,))


def _dataset(x: Tensor, y: Tensor, shape: tuple[int, ...]) -> Dataset:
    train, test = slice(EXAMPLES), slice(EXAMPLES, None)
    return Dataset("synthetic", x[train], y[train], x[:0], y[:0], x[test], y[test], shape, KINDS, 0.2, "synthetic")


def largest_part(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return a value per example that `vmap` computes only for one run: its shape follows the number of axes."""
    assert outputs.dim() == 2
    return functional.huber_loss(outputs, targets, reduction="none").flatten(1).logsumexp(1)


def per_token(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.mT, labels, reduction="none") * (labels != 2)


def flat(**options: Any) -> Loss:
    return lambda outputs, labels: functional.cross_entropy(outputs.flatten(0, 1), labels.flatten(), **options)


TRANSFORMER = {"family": "transformer", "heads": 2, "width": 4, "learning_rate": 0.01}
Case = tuple[Callable[[], Dataset], dict[str, Any], Loss]
CASES: dict[str, Case] = {
    "tokens": (tokens, TRANSFORMER, flat()),
    "some tokens": (tokens, {**TRANSFORMER, "ignore_index": 3}, flat(ignore_index=3)),
    "weighted tokens": (
        tokens,
        {**TRANSFORMER, "ignore_index": 3, "class_weights": str(WEIGHTS.tolist()), "label_smoothing": 0.1},
        flat(weight=WEIGHTS, ignore_index=3, label_smoothing=0.1),
    ),
    "weighted labels": (
        lambda: vectors("labels"), {"class_weights": str(WEIGHTS.tolist())},
        lambda outputs, labels: functional.cross_entropy(outputs, labels, WEIGHTS),
    ),
    "several labels": (
        lambda: vectors("several"), {"loss": "binary_cross_entropy"}, functional.binary_cross_entropy_with_logits,
    ),
    "a user's loss": (
        lambda: vectors("numbers"), {"loss": "own_losses:largest_part"},
        lambda outputs, targets: largest_part(outputs, targets).mean(),
    ),
    "a user's loss of tokens": (
        tokens, {**TRANSFORMER, "loss": "own_losses:per_token"},
        lambda outputs, labels: per_token(outputs, labels).mean(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_pack_measures_what_an_instrument_measures_on_each_run(
    name: str, make_run: MakeRun, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("own_losses")
    module.__dict__.update(largest_part=largest_part, per_token=per_token)
    monkeypatch.setitem(sys.modules, "own_losses", module)
    make_data, keys, loss = CASES[name]
    data = make_data()
    quantities = {"measure": "gradient_noise_scale trace_covariance lambda_max hessian_trace", "measure_at": "1.0"}
    runs = [
        make_run(
            **{"parameterization": "ntk", "steps": 12, **quantities, "measure_examples": 1000, "seed": seed, **keys}
        )
        for seed in range(2)
    ]
    trainer = make_trainer(runs, data)
    trainer.advance()
    factory = family_factory(ModelOptions.of_run(runs[0]))
    for number, result in enumerate(trainer.results()):
        curves, model = result.curves, factory(runs[0].width, data.input_shape, KINDS).double()
        model.load_state_dict({name: tensor[number] for name, tensor in trainer.state.parameters.items()})
        inputs, targets = (part.double() if part.is_floating_point() else part for part in (data.x_train, data.y_train))
        multipliers = {row.name: row.multiplier for row in trainer.tables[number]}
        problem = Problem(model, loss, (inputs, targets), learning_rate_multipliers=multipliers)
        noise = measure.gradient_noise(problem)
        for quantity in ("trace_covariance", "gradient_norm_squared", "gradient_noise_scale"):
            assert curves[quantity][-1] == pytest.approx(getattr(noise, quantity).value, rel=1e-8)
        hessian = torch.stack([problem.hessian_product(v) for v in torch.eye(problem.size).double()])
        values, trace = torch.linalg.eigvalsh(hessian), hessian.trace()
        assert curves["lambda_max"][-1] == pytest.approx(float(values[-1]), rel=1e-6)
        # Sampled to 5 %, or with the most products, unless the module is a plain MLP.
        low, high = (curves[f"hessian_trace_{end}"][-1] for end in ("low", "high"))
        assert low - 1e-8 <= float(trace) <= high + 1e-8 and high - low < 0.3 * float(values.abs().sum())
