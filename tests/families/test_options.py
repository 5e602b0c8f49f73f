"""Model options: their defaults, their conversion between spec and run, and refused options."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from accepted_inputs import SCALE_INVARIANT, shape_for

from noisescale.errors import BadInput
from noisescale.families import FAMILIES, NORMALIZATIONS, ModelOptions, complete, family_factory
from noisescale.families.table import CUSTOM_OPTIONS
from noisescale.runs import LATER_KEYS

EVERYTHING = ModelOptions("resnet", 3, "tanh", "group", 4, 32, (1, 2, 3), 8, True)


def test_options_can_be_keys_of_a_dictionary() -> None:
    assert {EVERYTHING: 1}[dataclasses.replace(EVERYTHING)] == 1
    assert ModelOptions("mlp") != ModelOptions("mlp", depth=2)


def test_a_run_has_the_same_defaults() -> None:
    fields = complete(ModelOptions("mlp")).run_fields()
    later = {name: LATER_KEYS[name] for name in fields if name in LATER_KEYS}
    assert later and {name: fields[name] for name in later} == later


@pytest.mark.parametrize(
    ("options", "filled"),
    [
        (ModelOptions("resnet"), {"blocks": (1, 1)}),
        (ModelOptions("resnet", blocks=(3,)), {}),
        (ModelOptions("mlp", normalization="group"), {"groups": 2}),
        (ModelOptions("convnet", normalization="ghost_batch"), {"ghost_size": 64}),
        (ModelOptions("mlp", normalization="ghost_batch", ghost_size=8), {}),
    ],
)
def test_defaults_are_filled_in_where_they_apply(options: ModelOptions, filled: dict[str, Any]) -> None:
    assert complete(options) == dataclasses.replace(options, **filled)
    assert complete(complete(options)) == complete(options)


def test_columns_have_the_values_of_the_spec() -> None:
    assert EVERYTHING.run_fields()["blocks"] == "[1, 2, 3]"


def test_every_option_belongs_to_a_family_or_a_normalization() -> None:
    taken = {name for family in FAMILIES.values() for name in family.takes}
    taken |= {name for normalizer in NORMALIZATIONS.values() for name in normalizer.takes}
    taken |= set(CUSTOM_OPTIONS)
    # A user's model is fixed if the spec has no width.
    assert taken | {"family", "fixed"} == {field.name for field in dataclasses.fields(ModelOptions)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"family": "convnet", "blocks": (1, 1)},
            r"model\.blocks: must be left out for family 'convnet', which has depth, act",
        ),
        ({"family": "mlp", "stem": 4}, r"model\.stem: must be left out for family 'mlp'.*Got: 4"),
        (
            {"family": "resnet", "depth": 5},
            r"model\.depth: must be left out for family 'resnet', which has blocks, stem",
        ),
        ({"family": "mlp", "normalization": "layer", "groups": 4}, r"model\.groups: .*normalization = 'group'.*Got: 4"),
        ({"family": "mlp", "ghost_size": 8}, r"model\.ghost_size: .*normalization = 'ghost_batch'"),
        ({"family": "torch.nn:Linear", "groups": 4}, r"model\.groups: must be left out for family 'torch.nn:Linear'"),
        ({"family": "torch.nn:Linear", "activation": "tanh"}, r"model\.activation: .*has no such options"),
        ({"family": "torch.nn:Linear", "scale_invariant": True}, r"model\.scale_invariant: "),
        ({"family": "covnet"}, rf"model\.family: one of {', '.join(FAMILIES)}, .*\(did you mean 'convnet'\?\)"),
        ({"family": "mlp", "normalization": "bacth"}, r"model\.normalization: .*did you mean 'batch'"),
    ],
)
def test_options_that_a_family_does_not_have_are_refused_by_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        family_factory(ModelOptions(**options))


@pytest.mark.parametrize("family", [name for name in SCALE_INVARIANT if "activation" in FAMILIES[name].takes])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_invariant": True}, r"model\.normalization: .*scale_invariant = true.*Got: 'none'"),
        ({"activation": "rleu"}, r"model\.activation: one of relu, tanh.* \(did you mean 'relu'\?\)"),
        ({"normalization": "group", "groups": 3}, r"model\.groups: a divisor .*Got: 3 for 8 channels"),
    ],
)
def test_options_that_do_not_fit_a_width_are_refused_when_the_model_is_built(
    family: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        family_factory(ModelOptions(family, **options))(8, shape_for(family), 3)
