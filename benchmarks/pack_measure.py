"""Time the measurement of a pack of 64 networks against 64 single measurements (`make instruments`)."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from noisescale import measure
from noisescale.families import ModelOptions, family_factory
from noisescale.measure.packs import PackProblem, Snapshot, measure_pack
from noisescale.training.losses import LOSSES
from noisescale.training.memory import footprint

RESULTS = Path(__file__).parent / "results" / "pack_measure.md"
RUNS, WIDTH, INPUTS, OUTPUTS = 64, 32, 40, 10
EXAMPLES = (64, 128, 512)
ACTIVATIONS = ("relu", "tanh")
QUANTITIES = ("lambda_max", "hessian_trace", "trace_covariance")
# Limit on the number of products for a trace. It is the same for all tools.
MAX_PRODUCTS = 200
# The examples count as a sample from this many examples, so that tr Σ is an estimate with an error.
POPULATION = 4000
# Number of networks that are measured one by one. Their time is scaled to all 64 networks.
SINGLES = 8


def models(activation: str) -> list[nn.Module]:
    """Train networks of two hidden layers for some steps, so that their curvature differs from initialization."""
    inputs, targets = data(512)
    networks = []
    for seed in range(RUNS):
        torch.manual_seed(seed)
        model = family_factory(ModelOptions("mlp", depth=2, activation=activation))(WIDTH, (INPUTS,), OUTPUTS)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        networks.append(model)
    return networks


def data(examples: int) -> tuple[Tensor, Tensor]:
    """Draw inputs and targets."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(examples, INPUTS, generator=generator), torch.randint(OUTPUTS, (examples,), generator=generator)


def measure_together(networks: list[nn.Module], examples: int) -> dict[str, Tensor]:
    """Measure all networks as one pack, and return each quantity, shape [R], by name."""
    inputs, targets = data(examples)
    parameters = {
        name: torch.stack([dict(network.named_parameters())[name].detach() for network in networks])
        for name, _ in networks[0].named_parameters()
    }
    multipliers = {name: torch.ones(RUNS, *(1,) * (tensor.dim() - 1)) for name, tensor in parameters.items()}
    one_hot = nn.functional.one_hot(targets, OUTPUTS).float()
    numbers = footprint(networks[0], inputs).kept
    loss = LOSSES["cross_entropy"].per_example
    problem = PackProblem(networks[0], loss, parameters, {}, multipliers, inputs, one_hot, numbers=numbers)
    return measure_pack(Snapshot(problem, None, torch.ones(RUNS), POPULATION), QUANTITIES)


def measure_single(network: nn.Module, examples: int) -> dict[str, float]:
    """Measure one network with the functions of `noisescale.measure`."""
    arguments = network, nn.CrossEntropyLoss(), data(examples)
    return {
        "lambda_max": float(measure.hessian_eigenvalues(*arguments, chunk=examples).values[0]),
        "hessian_trace": measure.hessian_trace(*arguments, max_products=MAX_PRODUCTS, chunk=examples).estimate.value,
        "trace_covariance": measure.gradient_noise(*arguments, POPULATION, chunk=examples).trace_covariance.value,
    }


def measure_with_curvlinops(network: nn.Module, examples: int, products: int) -> dict[str, float]:
    """Measure one network with curvlinops: ARPACK on its Hessian and its trace estimator.

    curvlinops has no tr Σ, so `noisescale.measure` computes it.

    Args:
        network: The network.
        examples: Number of examples.
        products: Number of products for the trace.
    """
    from curvlinops import HessianLinearOperator, hutchinson_trace
    from scipy.sparse.linalg import eigsh

    batch, loss = data(examples), nn.CrossEntropyLoss()
    operator = HessianLinearOperator(network, loss, list(network.parameters()), [batch], check_deterministic=False)
    # The tolerance of `measure.hessian_eigenvalues`, which stops at a residual of 1e-4 of the eigenvalue.
    value = eigsh(operator.to_scipy(), k=1, which="LA", tol=1e-4, return_eigenvectors=False)[0]
    trace = hutchinson_trace(operator, num_matvecs=products, distribution="rademacher")
    noise = measure.gradient_noise(network, loss, batch, POPULATION, chunk=examples)
    return {
        "lambda_max": float(value), "hessian_trace": float(trace), "trace_covariance": noise.trace_covariance.value
    }  # fmt: skip


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of several calls in seconds, after one call that is not timed."""
    work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def compare(activation: str, networks: list[nn.Module], examples: int, rounds: int) -> tuple[str, float]:
    """Time the pack and both kinds of single measurements.

    Returns:
        A line of the table, and the largest relative difference in λ_max and tr Σ between pack and single measurement.
    """
    together = measure_together(networks, examples)
    few, arguments = networks[:SINGLES], (nn.CrossEntropyLoss(), data(examples))
    products = [measure.hessian_trace(network, *arguments, max_products=MAX_PRODUCTS).products for network in few]
    scale = RUNS / SINGLES
    pack = seconds(lambda: measure_together(networks, examples), rounds)
    single = scale * seconds(lambda: [measure_single(network, examples) for network in few], rounds)
    peer = scale * seconds(
        lambda: [measure_with_curvlinops(network, examples, n) for network, n in zip(few, products, strict=True)],
        rounds,
    )
    difference = max(
        abs(float(together[name][run]) / value - 1)
        for run, network in enumerate(few)
        for name, value in measure_single(network, examples).items()
        if name != "hessian_trace"
    )
    times = f"{pack:.2f} | {single:.1f} | {peer:.1f}"
    line = f"| {activation} | {examples} | {times} | {statistics.mean(products):.0f} | {min(single, peer) / pack:.1f} |"
    return line, difference


def main() -> None:
    """Compare packs with both activations, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    load, rows = os.getloadavg()[0], []
    for activation in ACTIVATIONS:
        networks = models(activation)
        rows += [compare(activation, networks, examples, arguments.rounds) for examples in EXAMPLES]
    lines = [
        "# Measuring a pack at once",
        "",
        f"Generated by `make instruments`. {RUNS} MLPs with two hidden layers of width {WIDTH} and inputs of {INPUTS}",
        f"numbers, in float32; {', '.join(QUANTITIES)}. {os.cpu_count()} cores, {arguments.threads} thread, load",
        f"before the start {load:.1f}, medians of {arguments.rounds}. Single measurements are timed on {SINGLES} of",
        f"the networks and scaled by {RUNS // SINGLES}, with all data in one chunk. curvlinops computes the eigenvalue",
        "with ARPACK to the same residual and the trace with the same number of products; tr Σ comes from noisescale",
        "in both columns.",
        "",
        "| activation | examples | pack, s | single, s | curvlinops, s | products of a trace | speedup |",
        "|---|---|---|---|---|---|---|",
        *(line for line, _ in rows),
        "",
        f"λ_max and tr Σ of pack and single measurement differ by at most {max(worst for _, worst in rows):.0e} of",
        "their size. Speedup: the faster of both single measurements over the pack. The pack computes the trace of",
        "ReLU networks exactly, with one backward pass for each output. A single measurement samples it to 5 % or",
        f"{MAX_PRODUCTS} products, and so does the pack for tanh. On few examples a product is mostly overhead, which",
        "the pack shares. On many examples it is arithmetic, and the speedup comes only from passes that the pack does",
        "not repeat.",
    ]
    arguments.results.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
