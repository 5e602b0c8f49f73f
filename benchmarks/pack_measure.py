"""A pack of 64 networks measured at once, beside 64 single measurements; part of `make instruments`."""

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
from noisescale.training.footprint import footprint
from noisescale.training.losses import LOSSES

RESULTS = Path(__file__).parent / "results" / "pack_measure.md"
RUNS, WIDTH, INPUTS, OUTPUTS = 64, 32, 40, 10
EXAMPLES = (64, 128, 512)
ACTIVATIONS = ("relu", "tanh")
QUANTITIES = ("lambda_max", "hessian_trace", "trace_covariance")
# Products of a trace at most, the same for all; the error is then what each network's products allow.
MOST_PRODUCTS = 200
# Of which the examples are said to be a part, so that tr Σ has an error.
POPULATION = 4000
# Single measurements that are timed; they stand for all 64.
SINGLES = 8


def models(activation: str) -> list[nn.Module]:
    """Networks of two hidden layers after a little training, so that they have a curvature worth the name."""
    inputs, targets = data(512)
    found = []
    for seed in range(RUNS):
        torch.manual_seed(seed)
        model = family_factory(ModelOptions("mlp", depth=2, activation=activation))(WIDTH, (INPUTS,), OUTPUTS)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        found.append(model)
    return found


def data(examples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(examples, INPUTS, generator=generator), torch.randint(OUTPUTS, (examples,), generator=generator)


def whole_pack(nets: list[nn.Module], examples: int) -> dict[str, Tensor]:
    inputs, targets = data(examples)
    parameters = {
        name: torch.stack([dict(net.named_parameters())[name].detach() for net in nets])
        for name, _ in nets[0].named_parameters()
    }
    ones = {name: torch.ones(RUNS, *(1,) * (one.dim() - 1)) for name, one in parameters.items()}
    rows = nn.functional.one_hot(targets, OUTPUTS).float()
    numbers = footprint(nets[0], inputs).kept
    loss = LOSSES["cross_entropy"].per_example
    problem = PackProblem(nets[0], loss, parameters, {}, ones, inputs, rows, numbers=numbers)
    return measure_pack(Snapshot(problem, None, torch.ones(RUNS), POPULATION), QUANTITIES)


def own(net: nn.Module, examples: int) -> dict[str, float]:
    arguments = net, nn.CrossEntropyLoss(), data(examples)
    return {
        "lambda_max": float(measure.hessian_eigenvalues(*arguments, chunk=examples).values[0]),
        "hessian_trace": measure.hessian_trace(*arguments, max_products=MOST_PRODUCTS, chunk=examples).estimate.value,
        "trace_covariance": measure.gradient_noise(*arguments, POPULATION, chunk=examples).trace_covariance.value,
    }


def curvlinops(net: nn.Module, examples: int, products: int) -> dict[str, float]:
    """The same from curvlinops: ARPACK over its Hessian, its estimator of the trace; it has no tr Σ, which is ours."""
    from curvlinops import HessianLinearOperator, hutchinson_trace
    from scipy.sparse.linalg import eigsh

    batch, loss = data(examples), nn.CrossEntropyLoss()
    operator = HessianLinearOperator(net, loss, list(net.parameters()), [batch], check_deterministic=False)
    # To the accuracy of our own, which stops at residuals of 1e-4 of the eigenvalue.
    value = eigsh(operator.to_scipy(), k=1, which="LA", tol=1e-4, return_eigenvectors=False)[0]
    trace = hutchinson_trace(operator, num_matvecs=products, distribution="rademacher")
    noise = measure.gradient_noise(net, loss, batch, POPULATION, chunk=examples)
    return {
        "lambda_max": float(value), "hessian_trace": float(trace), "trace_covariance": noise.trace_covariance.value
    }  # fmt: skip


def seconds(work: Callable[[], object], rounds: int) -> float:
    work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def row(activation: str, nets: list[nn.Module], examples: int, rounds: int) -> tuple[str, float]:
    """A line of the table, and the largest relative difference between pack and single in λ_max and tr Σ."""
    found = whole_pack(nets, examples)
    few, arguments = nets[:SINGLES], (nn.CrossEntropyLoss(), data(examples))
    spent = [measure.hessian_trace(net, *arguments, max_products=MOST_PRODUCTS).products for net in few]
    pack = seconds(lambda: whole_pack(nets, examples), rounds)
    ours = seconds(lambda: [own(net, examples) for net in few], rounds) * RUNS / SINGLES
    peer = seconds(lambda: [curvlinops(net, examples, n) for net, n in zip(few, spent, strict=True)], rounds)
    peer *= RUNS / SINGLES
    worst = max(
        abs(float(found[name][run]) / value - 1)
        for run, net in enumerate(few)
        for name, value in own(net, examples).items()
        if name != "hessian_trace"
    )
    cells = f"{pack:.2f} | {ours:.1f} | {peer:.1f} | {statistics.mean(spent):.0f} | {min(ours, peer) / pack:.1f}"
    return f"| {activation} | {examples} | {cells} |", worst


def main() -> None:
    """Time all in turns and compare their numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    load, rows = os.getloadavg()[0], []
    for activation in ACTIVATIONS:
        nets = models(activation)
        rows += [row(activation, nets, examples, chosen.rounds) for examples in EXAMPLES]
    lines = [
        "# A pack measured at once",
        "",
        f"Generated by `make instruments`. {RUNS} MLPs of two hidden layers of width {WIDTH}, inputs of {INPUTS}",
        f"numbers, float32; {', '.join(QUANTITIES)}. {os.cpu_count()} cores, {chosen.threads} thread, load before",
        f"{load:.1f}; medians of {chosen.rounds}. Singles are timed on {SINGLES} of the networks and counted",
        f"{RUNS // SINGLES} times, all data in one chunk. curvlinops: its Hessian under ARPACK to the same residual,",
        "its estimator of the trace with as many products as ours takes, and our tr Σ, which it lacks.",
        "",
        "| activation | examples | pack, s | ours, s | curvlinops, s | products a trace | faster of both / pack |",
        "|---|---|---|---|---|---|---|",
        *(line for line, _ in rows),
        "",
        f"λ_max and tr Σ of pack and single differ by at most {max(worst for _, worst in rows):.0e} of their size.",
        "The trace of ReLU networks is exact in the pack, from as many backward passes as there are outputs; singles",
        f"sample it to 5 % or {MOST_PRODUCTS} products, as the pack does for tanh. On few examples a product is mostly",
        "overhead, which the pack shares; on many it is arithmetic, and the ratio falls to what passes that are not",
        "repeated save.",
    ]
    chosen.results.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
