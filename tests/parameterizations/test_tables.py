from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.families.mlp import mlp
from noisescale.parameterizations import build_table, describe_parameters, initial_parameters, read_out, stream
from noisescale.parameterizations.fan_in import Parameter


def described(module: nn.Module, reference: nn.Module | None = None) -> tuple[Parameter, ...]:
    return describe_parameters(module, module if reference is None else reference)


def network(width: int, depth: int = 2) -> nn.Module:
    return mlp(width, (7,), 3, depth=depth, activation="relu")


class Convolutional(nn.Module):
    """A convolution whose channels grow, a normalization layer, and a read-out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, width, 3)
        self.norm = nn.GroupNorm(1, width)
        self.second = nn.Conv2d(width, width, 3, bias=False)
        self.read_out = nn.Linear(width, 5)


class Tokens(nn.Module):
    """A module with a random parameter that belongs to no known layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(4, width))
        self.read_out = nn.Linear(width, 2)


def test_fan_ins_of_an_mlp_and_which_of_them_grow() -> None:
    parameters = described(network(16), network(17))
    assert [(parameter.name, parameter.role, parameter.fan_in, parameter.grows) for parameter in parameters] == [
        ("1.weight", "weight", 7, False),
        ("1.bias", "bias", 7, False),
        ("3.weight", "weight", 16, True),
        ("3.bias", "bias", 16, False),
        ("5.weight", "weight", 16, True),
        ("5.bias", "bias", 16, False),
    ]


def test_fan_ins_of_convolutions_and_roles_of_other_layers() -> None:
    parameters = {parameter.name: parameter for parameter in described(Convolutional(8), Convolutional(4))}
    assert (parameters["first.weight"].fan_in, parameters["first.weight"].grows) == (2 * 9, False)
    assert (parameters["second.weight"].fan_in, parameters["second.weight"].grows) == (8 * 9, True)
    assert (parameters["norm.weight"].role, parameters["norm.weight"].has_constant_start) == ("other", True)
    assert read_out(tuple(parameters.values())) == parameters["read_out.weight"]


def test_the_read_out_is_the_last_weight_whose_fan_in_grows() -> None:
    name = read_out(described(network(16, depth=1), network(8, depth=1)))
    assert name is not None and name.name == "3.weight"
    assert read_out(described(network(16))) is None


def test_a_reference_with_other_parameters_is_refused() -> None:
    with pytest.raises(BadInput, match="same parameters, by name, at every width"):
        described(network(16, depth=1), network(16, depth=2))


def test_the_tables_entries() -> None:
    rows = described(network(16), network(17))
    standard = {row.name: row for row in build_table("standard", rows, 2.0)}
    ntk = {row.name: row for row in build_table("ntk", rows, 2.0)}
    kept = {row.name: row for row in build_table("own", rows, 2.0)}
    for name, fan_in in (("1.weight", 7), ("3.weight", 16), ("5.weight", 16)):
        assert standard[name].init_std == ntk[name].init_std == pytest.approx(math.sqrt(2 / fan_in))
        assert ntk[name].multiplier == pytest.approx(2 / fan_in)
        assert (standard[name].multiplier, kept[name].multiplier, kept[name].init_std) == (1.0, 1.0, None)
    for name in ("1.bias", "3.bias", "5.bias"):
        assert (ntk[name].init_std, ntk[name].multiplier) == (standard[name].init_std, 1.0) == (0.0, 1.0)


def test_constant_parameters_keep_their_values_and_others_without_a_fan_in_are_refused() -> None:
    table = {row.name: row for row in build_table("ntk", described(Convolutional(8), Convolutional(4)))}
    assert (table["norm.weight"].init_std, table["norm.weight"].multiplier) == (None, 1.0)
    with pytest.raises(BadInput, match=r"'table'.*use parameterization 'own'"):
        build_table("ntk", described(Tokens(8), Tokens(4)))
    assert len(build_table("own", described(Tokens(8), Tokens(4)))) == 3


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(BadInput, match="did you mean 'standard'"):
        build_table("standart", described(network(4)))


def test_initial_weights_have_the_tables_deviation_and_depend_only_on_the_seed() -> None:
    module = network(256)
    table = build_table("ntk", described(module, network(128)), 2.0)
    start, again, other = (initial_parameters(table, module, seed) for seed in (3, 3, 4))
    for row in table:
        assert torch.equal(start[row.name], again[row.name]) and start[row.name].dtype == torch.float64
        if row.init_std:
            numbers = start[row.name].numel()
            # Four standard errors of a standard deviation that is estimated from this many numbers.
            error = 4 / math.sqrt(2 * numbers)
            assert float(start[row.name].std()) == pytest.approx(row.init_std, rel=error)
            assert not torch.equal(start[row.name], other[row.name])
        else:
            assert not start[row.name].any()


def test_streams_differ_between_seeds_and_uses_and_repeat() -> None:
    draws = {
        (seed, label): tuple(torch.rand(3, generator=stream(seed, *label)).tolist())
        for seed in (0, 1, 2**40)
        for label in (("initial weights",), ("data order", 0), ("data order", 1), ("data order", 10))
    }
    assert len(set(draws.values())) == len(draws)
    again = tuple(torch.rand(3, generator=stream(1, "data order", 1)).tolist())
    assert again == draws[1, ("data order", 1)]
