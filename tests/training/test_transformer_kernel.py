"""The kernel of the transformer computes the losses and gradients of a plain loop, dropout included.

The tolerance of 1e-9 allows for another order of sums in float64.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families import ModelOptions, family_factory
from noisescale.input_shapes import TokenShape
from noisescale.training.kernels import LoopKernel, Trial, choose_kernel
from noisescale.training.losses import LOSSES
from noisescale.training.objectives import LabelObjective, Objective, RowObjective

RUNS, BATCH, LENGTH, KINDS, WIDTH = 3, 4, 6, 5, 8
TOKENS = TokenShape((LENGTH,), KINDS)


def model(**options: object) -> nn.Module:
    shape = options.pop("shape", TOKENS)
    factory = family_factory(ModelOptions("transformer", **options))  # type: ignore[arg-type]
    return factory(WIDTH, shape, KINDS).double()  # type: ignore[arg-type]


def packed(**options: object) -> dict[str, Tensor]:
    torch.manual_seed(0)
    modules = [model(**dict(options)) for _ in range(RUNS)]
    return {
        name: torch.stack([dict(module.named_parameters())[name].detach() for module in modules])
        for name, _ in modules[0].named_parameters()
    }


CASES: dict[str, dict[str, object]] = {
    "tokens": {},
    "two blocks": {"depth": 2, "heads": 2},
    "tied": {"tied": True},
    "dropout": {"dropout": 0.3, "depth": 2},
    "mean": {"read_out": "mean"},
    "mean with dropout": {"read_out": "mean", "dropout": 0.2},
    "vectors": {"shape": (3, LENGTH)},
    "vectors with outputs for each": {"shape": (3, LENGTH), "read_out": "tokens"},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ignored", [None, 1])
def test_losses_and_gradients_equal_those_of_a_loop(case: str, ignored: int | None) -> None:
    options = CASES[case]
    parameters, generator = packed(**options), torch.Generator().manual_seed(1)
    vectors = "shape" in options
    inputs = (
        torch.randn(RUNS, BATCH, 3, LENGTH, generator=generator, dtype=torch.float64)
        if vectors
        else torch.randint(KINDS, (RUNS, BATCH, LENGTH), generator=generator)
    )
    per_token = options.get("read_out", "mean" if vectors else "tokens") == "tokens"
    shape = (RUNS, BATCH, LENGTH) if per_token else (RUNS, BATCH)
    labels = torch.randint(KINDS, shape, generator=generator)
    objective: Objective = LabelObjective(None, 0.0, ignored)
    module = model(**dict(options))
    seeds = [5, 6, 7] if options.get("dropout") else None
    kernel = choose_kernel(module, objective, Trial(parameters, {}, inputs, labels), "batched").kernel
    assert kernel.name == "batched"
    losses, gradients = kernel.losses_and_gradients(parameters, {}, inputs, labels, True, seeds)
    expected, of_loop = LoopKernel(model(**dict(options)), objective).losses_and_gradients(
        parameters, {}, inputs, labels, True, seeds
    )
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-9)
    assert gradients.keys() == of_loop.keys()
    for name, gradient in of_loop.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-9)


def test_other_losses_of_sequences_are_computed_too() -> None:
    parameters = packed(read_out="mean")
    inputs, targets = torch.randint(KINDS, (RUNS, BATCH, LENGTH)), torch.randn(RUNS, BATCH, KINDS, dtype=torch.float64)
    objective = RowObjective(LOSSES["mse"])
    kernel = choose_kernel(model(read_out="mean"), objective, Trial(parameters, {}, inputs, targets), "batched").kernel
    _, gradients = kernel.losses_and_gradients(parameters, {}, inputs, targets)
    _, expected = LoopKernel(model(read_out="mean"), objective).losses_and_gradients(parameters, {}, inputs, targets)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-9)


def test_a_token_sees_no_later_token() -> None:
    module, tokens = model(depth=2).eval(), torch.randint(KINDS, (2, LENGTH))
    changed = tokens.clone()
    changed[:, 4:] = (tokens[:, 4:] + 1) % KINDS
    torch.testing.assert_close(module(tokens)[:, :4], module(changed)[:, :4])
    assert not torch.allclose(module(tokens)[:, 4:], module(changed)[:, 4:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, r"model\.heads: a divisor of the width 8.*3"),
        ({"tied": True, "read_out": "mean"}, r"model\.tied"),
        ({"shape": (3, 4, 4)}, r"model\.family: sequences"),
        ({"shape": (7,)}, r"model\.family: sequences"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        model(**options)
