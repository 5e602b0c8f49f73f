"""Measurements of a pack equal measurements of its runs one by one, and no run depends on another run."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from networks import EXAMPLES, NETWORKS, OUTPUTS, Case
from torch import Tensor, nn

from noisescale import measure
from noisescale.measure.packs import INSTRUMENTS, PackProblem, Snapshot, measure_pack
from noisescale.measure.packs.lanczos import largest_eigenvalues

RUNS, POPULATION = 3, 50


def per_example(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.logsumexp(outputs, -1) - (outputs * targets).sum(-1)


def make_pack(network: str, runs: int = RUNS) -> tuple[list[nn.Module], Tensor, Tensor]:
    """Return models at generic points that differ in every tensor, and shared examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        inputs, targets = torch.randn(EXAMPLES, 1, 4, 4).double(), torch.randint(OUTPUTS, (EXAMPLES,))
        models = []
        for _ in range(runs):
            model = NETWORKS[network]().double()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.2 * torch.randn_like(parameter)
                model.train()(inputs)
            models.append(model.eval())
    return models, inputs, targets


def multipliers(models: list[nn.Module]) -> list[dict[str, Tensor]]:
    return [
        {
            name: torch.full((1,) * tensor.dim(), 0.3 + 0.5 * place + run, dtype=tensor.dtype)
            for place, (name, tensor) in enumerate(model.named_parameters())
        }
        for run, model in enumerate(models)
    ]


def snapshot(models: list[nn.Module], inputs: Tensor, targets: Tensor, packable: bool = True) -> Snapshot:
    def stacked(each: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([tensors[name] for tensors in each]).detach() for name in each[0]}

    parameters, buffers = (
        stacked([dict(getattr(model, kind)()) for model in models]) for kind in ("named_parameters", "named_buffers")
    )
    rows = nn.functional.one_hot(targets, OUTPUTS).double()
    problem = PackProblem(
        models[0], per_example, parameters, buffers, stacked(multipliers(models)), inputs, rows, numbers=200,
        packable=packable,
    )  # fmt: skip
    before = {name: tensor + 1e-3 * torch.cos(7 * tensor) for name, tensor in parameters.items()}
    return Snapshot(problem, before, torch.linspace(0.1, 0.3, len(models)).double(), POPULATION)


def dense_hessian(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return Case(model, nn.CrossEntropyLoss(), inputs, targets).hessian()


@pytest.mark.parametrize("packable", [True, pytest.param(False, marks=pytest.mark.full)])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_pack_equals_its_runs(network: str, packable: bool) -> None:
    models, inputs, targets = make_pack(network)
    pack = snapshot(models, inputs, targets, packable)
    columns = measure_pack(pack, list(INSTRUMENTS))
    for run, (model, given) in enumerate(zip(models, multipliers(models), strict=True)):
        setting = {"learning_rate_multipliers": given}
        arguments = model, nn.CrossEntropyLoss(), (inputs, targets)

        def close(column: str, value: float, relative: float, run: int = run) -> None:
            assert float(columns[column][run]) == pytest.approx(value, rel=relative), column

        close("lambda_max", measure.hessian_eigenvalues(*arguments, **setting).values[0], 1e-8)
        close("ntk_lambda_max", measure.ntk_eigenvalues(*arguments, **setting).eigenvalues[0], 1e-8)
        if network == "mlp, relu":
            dense = dense_hessian(model, inputs, targets)
            root = torch.cat([given[name].expand_as(tensor).flatten() for name, tensor in model.named_parameters()])
            for end in ("", "_low", "_high"):
                close(f"hessian_trace{end}", float((dense.diagonal() * root).sum()), 1e-9)
        else:
            trace = measure.hessian_trace(*arguments, max_products=200, **setting).estimate
            for end, value in (("", trace.value), ("_low", trace.low), ("_high", trace.high)):
                close(f"hessian_trace{end}", value, 1e-8)
        noise = measure.gradient_noise(*arguments, POPULATION, **setting)
        for name in ("trace_covariance", "gradient_norm_squared", "gradient_noise_scale"):
            estimate = getattr(noise, name)
            for end, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
                close(f"{name}{end}", value, 1e-8)
        after = dict(model.named_parameters())
        before = {name: tensor[run] for name, tensor in (pack.before or {}).items()}
        rates = {name: float(pack.learning_rates[run] * given[name]) for name in after}
        step = measure.weight_dynamics(before, after, after, rates)
        for name, layer in step.layers.items():
            if after[name].dim() > 1:
                close(f"rotation.{name}", layer.rotation, 1e-6)
                square = float(after[name].detach().square().sum())
                close(f"weight_norm_squared.{name}", square, 1e-12)
                close(f"effective_learning_rate.{name}", rates[name] / square, 1e-12)


def test_values_lie_within_their_bounds() -> None:
    models, inputs, targets = make_pack("mlp")
    columns = measure_pack(snapshot(models, inputs, targets), list(INSTRUMENTS))
    for name, values in columns.items():
        if f"{name}_low" in columns:
            assert (columns[f"{name}_low"] <= values).all() and (values <= columns[f"{name}_high"]).all()


def test_no_run_depends_on_another() -> None:
    models, inputs, targets = make_pack("mlp", 4)
    measured = measure_pack(snapshot(models, inputs, targets), ["lambda_max", "hessian_trace", "trace_covariance"])
    models[3] = copy.deepcopy(models[3])
    with torch.no_grad():
        for parameter in models[3].parameters():
            parameter.mul_(math.nan)
    spoilt = measure_pack(snapshot(models, inputs, targets), ["lambda_max", "hessian_trace", "trace_covariance"])
    for name, values in measured.items():
        np.testing.assert_allclose(values[:3], spoilt[name][:3], rtol=1e-9)
        assert spoilt[name][3].isnan(), name


def test_the_largest_eigenvalue_of_known_matrices() -> None:
    """The operators have repeated, negative and zero eigenvalues, and need very different numbers of products."""
    size, generator = 40, torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(4, size, size, generator=generator, dtype=torch.float64)).Q
    spectra = torch.stack(
        [
            torch.linspace(-1, 1, size).double() ** 3,
            torch.cat([torch.full((5,), 2.0), torch.linspace(-3, 1, size - 5)]).double(),
            -torch.linspace(0.5, 4, size).double(),
            torch.zeros(size).double(),
        ]
    )
    matrices = basis @ torch.diag_embed(spectra) @ basis.mT
    start = torch.randn(size, generator=generator, dtype=torch.float64).expand(4, size)
    largest = largest_eigenvalues(lambda v: (matrices @ v.unsqueeze(2)).squeeze(2), start, 1e-9, 200)
    np.testing.assert_allclose(largest.values, spectra.amax(1), rtol=1e-9, atol=1e-9)
    assert largest.converged.all()


def test_alignment_of_equal_and_of_random_weights() -> None:
    """If all weights are equal and all activations are equal, the alignment is 1. If they are random, it is ½."""
    width = 400
    model = nn.Sequential(nn.Linear(width, width, bias=False)).double()
    inputs = torch.cat([torch.ones(1, width), torch.randn(1, width, generator=torch.Generator().manual_seed(0))])
    for rows, expected, within in ((inputs[:1], 1.0, 1e-9), (inputs[1:], 0.5, 0.03)):
        with torch.no_grad():
            model[0].weight.copy_(torch.ones(width, width) if expected == 1 else model[0].weight)
            if expected != 1:
                model[0].weight.normal_(generator=torch.Generator().manual_seed(1))
        parameters = {name: tensor.detach().unsqueeze(0) for name, tensor in model.named_parameters()}
        ones = {name: torch.ones(1, 1, 1).double() for name in parameters}
        problem = PackProblem(
            model, per_example, parameters, {}, ones, rows.double(), torch.zeros(1, width).double(), numbers=width
        )
        columns = measure_pack(Snapshot(problem, None, torch.ones(1), 1), ["alignment"])
        assert float(columns["alignment.0.weight"]) == pytest.approx(expected, abs=within)
