"""A user's factory, and the errors that it can have."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from noisescale.errors import BadInput
from noisescale.families import ModelOptions, family_factory

MODULE = """
import torch
from torch import nn

def good(width, input_shape, num_classes):
    return nn.Sequential(nn.Linear(input_shape[0], width), nn.ReLU(), nn.Linear(width, num_classes))

def raises(width, input_shape, num_classes):
    raise RuntimeError("no such width")

def returns_none(width, input_shape, num_classes):
    pass

def takes_too_little(width):
    return nn.Linear(width, width)

def complex_layer(width, input_shape, num_classes):
    return nn.Sequential(nn.Linear(5, width, dtype=torch.complex64))

def whole_numbers(width, input_shape, num_classes):
    module = nn.Linear(5, 3)
    module.codes = nn.Parameter(torch.arange(width), requires_grad=False)
    return module

not_callable = 3
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "users_own_models"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken_models.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def build(reference: str) -> nn.Module:
    return family_factory(ModelOptions(reference))(8, (5,), 3)


def test_a_factory_is_found_in_the_current_folder(user_module: str) -> None:
    linear = [layer for layer in build(f"{user_module}:good").modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(5, 8), (8, 3)]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("users_own_models:raises", "RuntimeError: no such width"),
        ("users_own_models:returns_none", r"must return a torch\.nn\.Module.*NoneType"),
        ("users_own_models:takes_too_little", "TypeError"),
        ("users_own_models:complex_layer", "real numbers"),
        ("users_own_models:whole_numbers", "real numbers.*codes of int64"),
        ("users_own_models:missing", "a name 'missing' in module 'users_own_models'"),
        ("users_own_models:not_callable", "not_callable must be a function"),
        ("no_such_module_here:factory", "module 'no_such_module_here' that can be imported.*ModuleNotFoundError"),
        ("broken_models:factory", "ZeroDivisionError"),
    ],
)
def test_every_error_is_bad_input_that_names_the_key(user_module: str, reference: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        build(reference)
    assert str(caught.value).startswith("model.family")


def test_a_users_factory_has_no_options(user_module: str) -> None:
    with pytest.raises(BadInput, match=r"model\.depth: must be left out for family 'users_own_models:good'.*Got: 3"):
        family_factory(ModelOptions(f"{user_module}:good", depth=3))
