"""Options: one set of defaults everywhere, back and forth between spec, options and run, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from noisescale.errors import BadInput
from noisescale.families import FAMILIES, NORMALIZATIONS, ModelOptions, family_factory
from noisescale.runs import LATER_KEYS

EVERYTHING = ModelOptions("resnet", 3, "tanh", "group", 4, 32, (1, 2, 3), 8, True)


def test_options_are_keys_of_a_dictionary() -> None:
    assert {EVERYTHING: 1}[dataclasses.replace(EVERYTHING)] == 1
    assert ModelOptions("mlp") != ModelOptions("mlp", depth=2)


def test_a_run_means_the_same_defaults() -> None:
    fields = ModelOptions("mlp").run_fields()
    assert {name: fields[name] for name in LATER_KEYS} == LATER_KEYS
    assert fields["blocks"] == "[1, 1]", "a column reads as the spec is written"


def test_every_option_is_taken_by_some_family_or_normalization() -> None:
    taken = {name for family in FAMILIES.values() for name in family.takes}
    taken |= {name for normalizer in NORMALIZATIONS.values() for name in normalizer.takes}
    assert taken | {"family"} == {field.name for field in dataclasses.fields(ModelOptions)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"family": "convnet", "blocks": (2,)},
            r"model\.blocks: left out for family 'convnet', which takes depth, act",
        ),
        ({"family": "mlp", "stem": 4}, r"model\.stem: left out for family 'mlp'.*Got: 4"),
        ({"family": "resnet", "depth": 5}, r"model\.depth: left out for family 'resnet', which takes blocks, stem"),
        ({"family": "mlp", "normalization": "layer", "groups": 4}, r"model\.groups: .*normalization = 'group'.*Got: 4"),
        ({"family": "mlp", "ghost_size": 8}, r"model\.ghost_size: .*normalization = 'ghost_batch'"),
        ({"family": "any:factory", "groups": 4}, r"model\.groups: left out for family 'any:factory'"),
        ({"family": "any:factory", "activation": "tanh"}, r"model\.activation: .*takes none of these options"),
        ({"family": "any:factory", "scale_invariant": True}, r"model\.scale_invariant: "),
        ({"family": "covnet"}, r"model\.family: one of mlp, convnet, resnet, or .* \(did you mean 'convnet'\?\)"),
        ({"family": "mlp", "normalization": "bacth"}, r"model\.normalization: .*did you mean 'batch'"),
    ],
)
def test_what_a_family_does_not_take_is_refused_by_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        family_factory(ModelOptions(**options))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_invariant": True}, r"model\.normalization: .*scale_invariant = true.*Got: 'none'"),
        ({"activation": "rleu"}, r"model\.activation: one of relu, tanh \(did you mean 'relu'\?\)"),
        ({"normalization": "group", "groups": 3}, r"model\.groups: a divisor .*Got: 3 for 8 channels"),
    ],
)
def test_what_no_width_can_have_is_refused_when_built(family: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        family_factory(ModelOptions(family, **options))(8, (1, 8, 8), 3)
