"""mup as a table equals the rules of the `mup` package, after its read-out's forward multiplier is absorbed.

The rules are written out here a second time, from the package's source and not from the table, so that they are tested
where the package is missing: it asks for torchvision, so no extra of this project installs it. To run the other test:
`pip install --no-deps mup==1.0.0 pyyaml`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisescale.training import parameterize

# In float64 over 50 steps, both compute the same sums in another order. The measured difference is 2e-15, also for the
# package.
TOLERANCE = 1e-12
STEPS = 50
INPUTS, OUTPUTS, WIDTH, BASE = 5, 3, 40, 8


class Readout(nn.Linear):
    """The package's `MuReadout`, which divides the input by the growth of the fan-in."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / (WIDTH / BASE))


class Network(nn.Module):
    """A network with an embedding-like input, gains of a normalization, hidden layers of two widths, and a read-out."""

    def __init__(self, width: int, read_out: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width, bias=False)
        self.scale = nn.Parameter(torch.ones(1))
        self.read_out = read_out(width, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.tanh(self.first(x)))
        x = x + self.scale * self.down(torch.relu(self.up(x)))
        return self.read_out(x)  # type: ignore[no-any-return]


Groups = Callable[[nn.Module], list[dict[str, Any]]]


def written_out(rate: float, decay: float) -> Groups:
    """Return the groups of `MuSGD`: the rates of vectors and of the read-out are multiplied by n."""
    ratio = WIDTH / BASE
    times_ratio = {"first.weight", "first.bias", "norm.weight", "norm.bias", "up.bias", "read_out.weight"}

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        tensors = dict(model.named_parameters())
        return [
            {"params": [tensors[name] for name in times_ratio], "lr": rate * ratio, "weight_decay": decay / ratio},
            {"params": [t for name, t in tensors.items() if name not in times_ratio], "lr": rate,
             "weight_decay": decay},
        ]  # fmt: skip

    return groups


def train(model: nn.Module, groups: Iterable[dict[str, Any]], momentum: float) -> None:
    optimizer = torch.optim.SGD(groups, momentum=momentum)
    generator = torch.Generator().manual_seed(3)
    for _ in range(STEPS):
        x = torch.randn(8, INPUTS, generator=generator, dtype=torch.float64)
        y = torch.randint(OUTPUTS, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def check(by_package: nn.Module, groups: Groups, momentum: float, decay: float) -> None:
    """Train both networks from the same function, and compare every tensor after absorbing the forward multipliers."""
    by_table = Network(WIDTH).double()
    table_groups = parameterize(by_table, Network(BASE), "mup", 0.1, weight_decay=decay)
    ratio = WIDTH / BASE
    absorbed = {name: 1 / ratio if name == "read_out.weight" else 1.0 for name, _ in by_table.named_parameters()}
    with torch.no_grad():
        for name, tensor in by_package.named_parameters():
            tensor.copy_(by_table.get_parameter(name) / absorbed[name])
    start = by_table.up.weight.detach().clone()
    train(by_table, table_groups, momentum)
    train(by_package, groups(by_package), momentum)
    assert not torch.allclose(start, by_table.up.weight, rtol=1e-2)
    for name, tensor in by_package.named_parameters():
        expected = absorbed[name] * tensor
        torch.testing.assert_close(by_table.get_parameter(name), expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.02)])
def test_the_table_equals_the_packages_rules_written_out(momentum: float, decay: float) -> None:
    check(Network(WIDTH, Readout).double(), written_out(0.1, decay), momentum, decay)


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.02)])
def test_the_table_equals_the_package(momentum: float, decay: float) -> None:
    mup = pytest.importorskip(
        "mup", reason="pip install --no-deps mup==1.0.0 pyyaml; no extra: it asks for torchvision"
    )
    by_package = Network(WIDTH, mup.MuReadout)
    mup.set_base_shapes(by_package, Network(BASE, mup.MuReadout), delta=Network(2 * BASE, mup.MuReadout))

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        kept: list[dict[str, Any]] = mup.MuSGD(model.parameters(), lr=0.1, weight_decay=decay).param_groups
        return [{key: group[key] for key in ("params", "lr", "weight_decay")} for group in kept]

    shapes = {name: tensor.infshape for name, tensor in by_package.named_parameters()}
    by_package.double()
    for name, tensor in by_package.named_parameters():
        tensor.infshape = shapes[name]
    check(by_package, groups, momentum, decay)
