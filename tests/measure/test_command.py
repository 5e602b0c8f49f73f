"""The command `noisescale measure`: its table, its JSON, and its messages for wrong input."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from noisescale import measure
from noisescale.cli import main
from noisescale.datasets import DatasetOptions, load_dataset

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "measure.json"
MODULE = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10))
def factory():
    return model
def needy(width):
    return model
def grows(width, shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, classes))
not_a_model = 3
wild = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
with torch.no_grad():
    wild[1].weight.fill_(float("nan"))
small = nn.Linear(3, 2)
def raising():
    raise KeyError("no")
"""


@pytest.fixture(autouse=True)
def place(place_module: Callable[[str, str], None]) -> None:
    place_module("users_model", MODULE)


def run_measure(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["measure", *arguments, "--data", "digits", "--json"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def test_json_contains_the_values_of_the_instruments(capsys: pytest.CaptureFixture[str]) -> None:
    values, listed = run_measure(capsys, "users_model:model", "--examples", "5000"), json.loads(SCHEMA.read_text())
    assert set(values) == set(listed["required"]) and set(listed["properties"]) == set(values)
    assert set(listed["properties"]["quantities"]["required"]) == set(values["quantities"]) - {"noise_curvature_cosine"}
    for row in values["quantities"].values():
        assert set(row) == set(listed["$defs"]["Quantity"]["required"])
        assert row["low"] <= row["value"] <= row["high"]
    data = load_dataset(DatasetOptions("digits"))
    assert values["examples"] == values["population"] == len(data.x_train)
    model = sys.modules["users_model"].model
    noise = measure.gradient_noise(model, nn.CrossEntropyLoss(), (data.x_train, data.y_train))
    assert values["quantities"]["gradient_noise_scale"]["value"] == pytest.approx(
        noise.gradient_noise_scale.value, rel=1e-4
    )
    top = measure.hessian_eigenvalues(model, nn.CrossEntropyLoss(), (data.x_train, data.y_train))
    assert values["quantities"]["lambda_max"]["value"] == pytest.approx(top.values[0], rel=1e-4)


def test_a_part_of_the_data_has_errors(capsys: pytest.CaptureFixture[str]) -> None:
    row = run_measure(capsys, "users_model:factory", "--examples", "200")["quantities"]["trace_covariance"]
    assert row["low"] < row["value"] < row["high"]


def test_weights_of_a_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = run_measure(capsys, "users_model:model")["quantities"]["lambda_max"]["value"]
    doubled = {name: 2 * tensor for name, tensor in sys.modules["users_model"].model.state_dict().items()}
    torch.save(doubled, tmp_path / "weights.pt")
    after = run_measure(capsys, "users_model:model", "--checkpoint", "weights.pt")["quantities"]["lambda_max"]["value"]
    assert after != pytest.approx(before, rel=0.01)


@pytest.mark.parametrize(
    ("wrapped", "options"),
    [
        (lambda state: {"state_dict": state, "epoch": 3, "callbacks": {"seen": torch.ones(2)}}, []),
        (lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}, "step": 1}, []),
        (lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()}, []),
        (lambda state: {"state_dict": {f"model._orig_mod.{name}": value for name, value in state.items()}}, []),
        (lambda state: {"state_dict": {"loss.weight": torch.ones(2), **_prefixed("model.", state)}}, []),
        (lambda state: {"ema": state, "model": {"other": torch.ones(2)}}, ["--key", "ema"]),
    ],
)
def test_checkpoints_in_the_usual_wrappers(
    wrapped: Any, options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["users_model:model", "--only", "hessian_trace", "--examples", "64"]
    run_measure(capsys, *arguments)
    doubled = {name: 2 * tensor for name, tensor in sys.modules["users_model"].model.state_dict().items()}
    for name, stored in (("plain.pt", doubled), ("wrapped.pt", wrapped(doubled))):
        torch.save(stored, tmp_path / name)
    plain = run_measure(capsys, *arguments, "--checkpoint", "plain.pt")["quantities"]
    inside = run_measure(capsys, *arguments, "--checkpoint", "wrapped.pt", *options)["quantities"]
    assert set(plain) == {"hessian_trace"}
    assert inside["hessian_trace"]["value"] == plain["hessian_trace"]["value"]


def _prefixed(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def test_a_factory_of_a_sweep_is_built_at_a_width(capsys: pytest.CaptureFixture[str]) -> None:
    values = run_measure(capsys, "users_model:grows", "--width", "5", "--only", "lambda_max", "--examples", "64")
    assert values["parameters"] == 64 * 5 + 5 + 5 * 10 + 10


def test_each_quantity_is_printed_as_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", "digits", "--examples", "64", "--max-products", "5", "--only", "lambda_max"]
    assert main(["measure", "users_model:model", *options, "--only", "hessian_trace"]) == 0
    out, errors = capsys.readouterr()
    lines = errors.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["next", "λ_max of H", "next", "tr H"]
    assert "±" in lines[1] and "at most" in lines[2]
    assert "not converged in 5 products" in " ".join(out.split())


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "users_model:model", "--data", "digits"]) == 0
    text = capsys.readouterr().out
    assert "gradient noise scale" in text and "±" in text and "products" in text and "95 %" in text


TALKS = """
import os, sys
import torch
from torch import nn
print("import")
kept = sys.stdout
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
    def forward(self, x):
        print("forward")
        kept.write("kept stream\\n")
        sys.__stdout__.write("stream of the process\\n")
        return self.layer(x.flatten(1))
def factory():
    os.write(1, b"file\\n")
    os.system("echo program")
    return Model()
model = Model()
def data():
    print("data")
    x = torch.randn(12, 1, 8, 8)
    return x, torch.arange(12) % 10, x, torch.arange(12) % 10
"""


@pytest.mark.parametrize("name", ["model", "factory"])
@pytest.mark.parametrize("data", ["digits", "talks:data"])
def test_what_a_model_prints_is_not_in_the_output(name: str, data: str, tmp_path: Path) -> None:
    (tmp_path / "talks.py").write_text(TALKS)
    options = ["--data", data, "--only", "trace_covariance", "--examples", "8", "--json"]
    command = [sys.executable, "-m", "noisescale", "measure", f"talks:{name}", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["quantities"].keys() == {"trace_covariance"}
    texts = ["import", "forward", "kept stream", "stream of the process", *["data"] * (data != "digits")]
    texts += ["file", "program"] if name == "factory" else []
    assert set(texts) <= set(done.stderr.splitlines())


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path("exploded").write_text, ("x",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["users_model"], "package.module:name"),
        (["users_model:nothing"], "nothing"),
        (["no_such_module:model"], "can be imported"),
        (["users_model:needy"], "--width, because users_model:needy takes"),
        (["users_model:raising"], "KeyError"),
        (["users_model:not_a_model"], "torch.nn.Module"),
        (["users_model:wild"], "finite weights"),
        (["users_model:small"], "inputs of shape"),
        (["users_model:model", "--only", "lambda_min"], "lambda_max"),
        (["users_model:model", "--loss", "hinge"], "--loss"),
        (["users_model:model", "--checkpoint", "nowhere.pt"], "nowhere.pt"),
        (["users_model:model", "--checkpoint", "users_model.py"], "state_dict"),
        (["users_model:model", "--checkpoint", "bomb.pt"], "state_dict"),
        (["users_model:model", "--checkpoint", "other.pt"], "other.pt"),
    ],
)
def test_wrong_input_gets_one_message(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"0.weight": torch.zeros(2)}, tmp_path / "other.pt")
    assert main(["measure", *arguments, "--data", "digits"]) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not (tmp_path / "exploded").exists()
