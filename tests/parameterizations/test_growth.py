"""Growth with width, inferred from a model at another width: fan-ins, outputs, ratios and the resulting rules."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.parameterizations import Parameter, Row, build_table, describe_parameters
from noisescale.training import parameterize

BASED = ("improved_standard", "mup")


class Convolutional(nn.Module):
    """A network with plain, grouped and depthwise convolutions, growing and constant gains, and two growing axes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, width, 3)
        self.norm = nn.GroupNorm(1, width)
        self.second = nn.Conv2d(width, 2 * width, 5, bias=False)
        self.by_channel = nn.Conv2d(2 * width, 2 * width, 3, groups=2 * width)
        self.grouped = nn.Conv2d(2 * width, width, 1, groups=2)
        self.skip = nn.Parameter(torch.zeros(()))
        self.positions = nn.Parameter(torch.zeros(1, width, 4, 4))
        self.read_out = nn.Linear(16 * width, 5)


def rows_of(
    factory: type[nn.Module], name: str, width: int, base: int, other: int | None = None, init_scale: float = 2.0
) -> dict[str, Row]:
    modules = [factory(size) for size in (width, other or base, base)]
    return {row.name: row for row in build_table(name, describe_parameters(*modules), init_scale)}


def test_ratios_refer_to_the_base_and_growth_is_detected_at_any_width() -> None:
    def look(width: int) -> dict[str, tuple[bool, float, bool, float | None]]:
        described = describe_parameters(Convolutional(width), Convolutional(6), Convolutional(4))
        return {p.name: (p.grows, p.fan_in_ratio, p.outputs_grow, p.output_ratio) for p in described}

    assert look(12) == {
        "skip": (False, 1.0, False, 1.0),
        "positions": (False, 1.0, True, 3.0),
        "first.weight": (False, 1.0, True, 3.0),
        "first.bias": (False, 1.0, True, 3.0),
        "norm.weight": (False, 1.0, True, 3.0),
        "norm.bias": (False, 1.0, True, 3.0),
        "second.weight": (True, 3.0, True, 3.0),
        "by_channel.weight": (False, 1.0, True, 3.0),
        "by_channel.bias": (False, 1.0, True, 3.0),
        "grouped.weight": (True, 3.0, True, 3.0),
        "grouped.bias": (False, 1.0, True, 3.0),
        "read_out.weight": (True, 3.0, False, 1.0),
        "read_out.bias": (False, 1.0, False, 1.0),
    }
    at_base = look(4)
    assert {name: (grows, wider) for name, (grows, _, wider, _) in at_base.items()} == {
        name: (grows, wider) for name, (grows, _, wider, _) in look(12).items()
    }
    assert all(row[1] == row[3] == 1.0 for row in at_base.values())


def test_without_a_base_every_ratio_is_one() -> None:
    described = describe_parameters(Convolutional(12), Convolutional(4))
    assert all(parameter.fan_in_ratio == parameter.output_ratio == 1.0 for parameter in described)
    assert sum(parameter.grows for parameter in described) == 3


def test_the_multipliers_of_a_convolutional_network() -> None:
    mup = rows_of(Convolutional, "mup", 12, 4)
    improved = rows_of(Convolutional, "improved_standard", 12, 4)
    expected = {
        "skip": (1, 1), "positions": (3, 1), "first.weight": (3, 1), "first.bias": (3, 1), "norm.weight": (3, 1),
        "norm.bias": (3, 1), "second.weight": (1, 1 / 3), "by_channel.weight": (3, 1), "by_channel.bias": (3, 1),
        "grouped.weight": (1, 1 / 3), "grouped.bias": (3, 1), "read_out.weight": (1 / 3, 1 / 3),
        "read_out.bias": (1, 1),
    }  # fmt: skip
    for name, (with_mup, with_improved) in expected.items():
        assert mup[name].multiplier == pytest.approx(with_mup, rel=1e-15)
        assert improved[name].multiplier == pytest.approx(with_improved, rel=1e-15)


@pytest.mark.parametrize("name", BASED)
def test_the_initial_variance_follows_the_fan_in_and_is_smaller_in_the_read_out_of_mup(name: str) -> None:
    rows = rows_of(Convolutional, name, 12, 4, init_scale=1.5)
    fans = {"first.weight": 18, "second.weight": 25 * 12, "by_channel.weight": 9, "grouped.weight": 12}
    for layer, fan_in in fans.items():
        assert rows[layer].init_std == pytest.approx(math.sqrt(1.5 / fan_in), rel=1e-15)
    share = 3 if name == "mup" else 1
    assert rows["read_out.weight"].init_std == pytest.approx(math.sqrt(1.5 / (16 * 12 * share)), rel=1e-15)
    assert all(rows[bias].init_std == 0.0 for bias in rows if bias.endswith("bias") and bias != "norm.bias")
    assert all(rows[name].init_std is None for name in ("norm.weight", "norm.bias", "skip", "positions"))


def test_inputs_and_outputs_that_grow_differently_give_their_ratio() -> None:
    class Uneven(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first = nn.Linear(3, width)
            self.square = nn.Linear(width, width * width)
            self.read_out = nn.Linear(width * width, 2)

    rows = rows_of(Uneven, "mup", 8, 4)
    assert (rows["first.weight"].multiplier, rows["square.weight"].multiplier) == (2.0, 2.0)
    assert (rows["square.bias"].multiplier, rows["read_out.weight"].multiplier) == (4.0, 0.25)


class Language(nn.Module):
    """A network with an embedding and a read-out, which may be tied."""

    def __init__(self, width: int, tied: bool = False, **options: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, width, **options)
        self.hidden = nn.Linear(width, width)
        self.read_out = nn.Linear(width, 11, bias=False)
        if tied:
            self.read_out.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.read_out(torch.tanh(self.hidden(self.tokens(x))))  # type: ignore[no-any-return]


class OneHot(Language):
    """The same network with the embedding written as a linear layer on one-hot inputs."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.tokens = nn.Linear(11, width, bias=False)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.one_hot(x, 11).double())


@pytest.mark.parametrize("name", ["standard", "ntk", *BASED])
def test_an_embedding_is_an_input_layer_on_one_hot_inputs(name: str) -> None:
    embedding, one_hot = (Language(12).double(), OneHot(12).double())
    bases: list[nn.Module | None] = [Language(4), OneHot(4)] if name in BASED else [None, None]
    groups = parameterize(embedding, Language(4), name, 0.1, base=bases[0])
    one_hot_groups = parameterize(one_hot, OneHot(4), name, 0.1, base=bases[1])
    rates = [
        {
            key: group["lr"]
            for group in all_groups
            for key, tensor in model.named_parameters()
            if any(tensor is one for one in group["params"])
        }
        for model, all_groups in ((embedding, groups), (one_hot, one_hot_groups))
    ]
    # One of eleven inputs is not zero. The fan-in of the embedding is 1, while that of the linear layer is 11.
    expected = {key: rate * (11 if name == "ntk" and key == "tokens.weight" else 1) for key, rate in rates[1].items()}
    assert rates[0] == pytest.approx(expected, rel=1e-15)
    assert float(embedding.tokens.weight.detach().var()) == pytest.approx(2.0, rel=4 * math.sqrt(2 / 132))


@pytest.mark.parametrize("name", ["standard", "ntk", *BASED])
def test_a_tied_tensor_that_needs_two_rows_of_the_table_is_refused(name: str) -> None:
    modules = [Language(width, tied=True) for width in (12, 4, 4)]
    described = describe_parameters(*modules)
    tied = next(parameter for parameter in described if parameter.name == "tokens.weight")
    assert [other.name for other in tied.tied] == ["read_out.weight"]
    with pytest.raises(BadInput, match=f"{name!r} has two for the tied 'tokens.weight' and 'read_out.weight'"):
        build_table(name, described)
    assert len(build_table("own", described)) == 3


def test_a_tensor_that_is_tied_between_equal_layers_has_one_row() -> None:
    class Twice(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, width), nn.Linear(width, width)
            self.third = nn.Linear(width, width)
            self.third.weight = self.second.weight
            self.again = self.second
            self.read_out = nn.Linear(width, 2)

    rows = rows_of(Twice, "mup", 8, 4)
    assert rows["second.weight"].multiplier == 1.0
    assert [other.name for other in rows["second.weight"].parameter.tied] == ["third.weight", "again.weight"]
    assert "again.weight" not in rows


def test_queries_tied_to_keys_cannot_have_a_separate_factor() -> None:
    class Shared(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
            self.key.weight = self.query.weight
            self.read_out = nn.Linear(width, 2)

    modules = [Shared(width) for width in (8, 4, 4)]
    with pytest.raises(BadInput, match="'mup' has two for the tied 'query.weight' and 'key.weight'"):
        build_table("mup", describe_parameters(*modules, query_rows=["query.weight"]))
    build_table("mup", describe_parameters(*modules, query_rows=["query.weight", "key.weight"]))


@pytest.mark.parametrize("options", [{"padding_idx": 0}, {"max_norm": 1}])
def test_an_embedding_that_is_not_linear_in_its_rows_has_no_rule(options: dict[str, int]) -> None:
    modules = [Language(width, **options) for width in (12, 4, 4)]
    with pytest.raises(BadInput, match=r"'tokens\.weight'.*use parameterization 'own'"):
        build_table("mup", describe_parameters(*modules))


def fixed_width(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))


class FixedReadOut(nn.Module):
    """A network whose read-out is a buffer, so that no parameter can absorb its multiplier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.hidden = nn.Linear(3, width), nn.Linear(width, width)
        self.register_buffer("read_out", torch.randn(2, width))


class Square(nn.Module):
    """A module with a parameter that is in no layer and has two growing axes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.square = nn.Parameter(torch.zeros(width, width))
        self.read_out = nn.Linear(width, 2)


@pytest.mark.parametrize("name", BASED)
def test_a_module_whose_width_does_not_grow_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=f"for '{name}' a model with a layer whose fan-in grows"):
        build_table(name, describe_parameters(*(fixed_width(width) for width in (8, 4, 4))))
    assert build_table("ntk", describe_parameters(fixed_width(8), fixed_width(4)))


def test_a_multiplier_that_no_parameter_can_absorb_is_refused() -> None:
    modules = [FixedReadOut(width) for width in (8, 4, 4)]
    with pytest.raises(BadInput, match="for 'mup' a read-out"):
        build_table("mup", describe_parameters(*modules))
    build_table("improved_standard", describe_parameters(*modules))


def test_a_parameter_in_no_layer_with_two_growing_axes_has_no_rule_in_mup() -> None:
    modules = [Square(width) for width in (8, 4, 4)]
    with pytest.raises(BadInput, match="'square': it is in no known layer, and several of its axes grow"):
        build_table("mup", describe_parameters(*modules))
    build_table("improved_standard", describe_parameters(*modules))


def test_a_base_is_refused_if_the_parameterization_does_not_use_it() -> None:
    with pytest.raises(BadInput, match="base: a parameterization that uses it: improved_standard, mup"):
        parameterize(Language(8), Language(4), "ntk", 0.1, base=Language(4))


def test_a_base_with_other_parameters_is_refused() -> None:
    with pytest.raises(BadInput, match="same parameters, by name, at every width"):
        describe_parameters(Language(8), Language(4), Square(4))


def test_descriptions_of_parameters_can_be_compared_and_hashed() -> None:
    described, again = (describe_parameters(Language(8), Language(4), Language(4)) for _ in range(2))
    assert described == again and isinstance(described[0], Parameter) and len({*described, *again}) == len(described)
