"""The command line: exit codes, and a single message without a traceback for every mistake of a user."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import pickle
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noisescale.cli import main
from noisescale.sweeps.lock import driver_lock


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, small_spec: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a working folder with a small spec and a single core, and restore the signal handler."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    (tmp_path / "spec.toml").write_text(small_spec)
    yield
    signal.signal(signal.SIGTERM, handler)


Refuse = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Return a function that runs a command and requires exit code 2, a single line and no new file.

    It returns the line.
    """

    def run(*arguments: str, code: int = 2) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main(list(arguments)) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("noisescale: ")
        assert captured.err.count("\n") == 1
        after = [path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts]
        assert sorted(after) == before
        return captured.err

    return run


SWEEP = ("sweep", "spec.toml", "--out", "out")


def test_a_sweep_from_start_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP, "--dry-run"]) == 0
    assert "4 (0 finished)" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main([*SWEEP]) == 0
    assert main([*SWEEP]) == 0
    capsys.readouterr()
    assert main(["status", "out", "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert state.keys() == {
        "schema_version", "completed", "diverged", "missing", "finished", "failed", "running", "runs_per_second",
        "seconds_left", "heartbeat_age",
    }  # fmt: skip
    assert (state["completed"], state["missing"], state["failed"], state["running"]) == (4, 0, {}, False)
    assert main(["status", "out"]) == 0
    assert "completed  4" in capsys.readouterr().out


def test_doctor_prints_json_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema_version"] == 1
    assert main(["doctor"]) == 0
    assert "torch" in capsys.readouterr().out


def test_help_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert main(["sweep", "--help"]) == 0
    assert "--dry-run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("training.stepps=5", "training.stepps"),
        ('model.family="mpl"', "model.family"),
        ("grid.learning_rate=[]", "grid.learning_rate"),
        ("grid.learning_rate=[-1.0]", "grid.learning_rate"),
        ("grid.learning_rate=[nan]", "grid.learning_rate"),
        ("grid.batch_size=[61]", "grid.batch_size"),
        ('grid.learning_rate="1e-3"', "grid.learning_rate"),
        ("grid.learning_rate=1e-3", "grid.learning_rate"),
        ('training.loss="hinge"', "training.loss"),
        ('dataset.name="digit"', "digits"),
        ("seeds", "--set"),
        ('model.family="convnt"', "did you mean 'convnet'"),
        ('model.normalization="bach"', "did you mean 'batch'"),
        ('model.activation="rleu"', "did you mean 'relu'"),
        ("model.blocks=[2, 2]", "model.blocks"),
        ("model.groups=4", "model.groups"),
        ("model.scale_invariant=true", "model.normalization"),
        ('model={family="convnet", blocks=[1, 1]}', "model.blocks"),
        ('model={family="convnet", normalization="group", groups=3}', "model.groups"),
        ('model={family="resnet", blocks=[1, 1, 1, 1]}', "model.family"),
        ('model={family="resnet", depth=3}', "model.depth"),
        ('model={family="mlp", normalization="ghost_batch", ghost_size=4}', "grid.batch_size"),
        ('model={family="mlp", normalization="ghost_batch", ghost_size=1}', "model.ghost_size"),
        ('model={family="mlp", normalization="group", groups=2}', "model.groups"),
        ("grid.base_width=4", "grid.base_width"),
        ("grid.base_width=0", "grid.base_width"),
        ('model.query_rows=["qkv.weight[:64]"]', "model.query_rows"),
    ],
)
def test_a_bad_spec_is_refused_by_key(refused: Refuse, override: str, named: str) -> None:
    message = refused(*SWEEP, "--set", override)
    assert named in message
    assert "Got: " in message


USER_MODELS = """
import torch
from torch import nn

def fixed(width, shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, classes))

class Model(nn.Module):
    def __init__(self, width, tied):
        super().__init__()
        self.first, self.hidden = nn.Linear(64, width), nn.Linear(width, width)
        if tied:
            self.classes, self.read_out = nn.Embedding(10, width), nn.Linear(width, 10, bias=False)
            self.read_out.weight = self.classes.weight
        else:
            self.register_buffer("weight", torch.randn(10, width))
            self.read_out = lambda x: x @ self.weight.T

    def forward(self, x):
        return self.read_out(self.hidden(self.first(x.flatten(1))))

def tied(width, shape, classes):
    return Model(width, True)

def buffer(width, shape, classes):
    return Model(width, False)
"""


@pytest.mark.parametrize(
    ("model", "parameterization", "named"),
    [
        ("fixed", "mup", "a layer whose fan-in grows"),
        ("fixed", "improved_standard", "a layer whose fan-in grows"),
        ("buffer", "mup", "a weight of which only the fan-in grows"),
        ("tied", "mup", "'mup' has two for the tied 'classes.weight' and 'read_out.weight'"),
        ("tied", "improved_standard", "'improved_standard' has two for the tied"),
    ],
)
def test_a_model_that_does_not_fit_the_parameterization_is_refused(
    refused: Refuse, tmp_path: Path, model: str, parameterization: str, named: str
) -> None:
    (tmp_path / "user_models.py").write_text(USER_MODELS)
    overrides = (
        "--set",
        f'model.family="user_models:{model}"',
        "--set",
        f'grid.parameterization=["{parameterization}"]',
    )
    assert named in refused(*SWEEP, *overrides)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("sweep", "absent.toml", "--out", "out"), "absent.toml"),
        (("sweep", "spec.toml"), "--out"),
        ((*SWEEP, "--jobs", "0"), "--jobs"),
        ((*SWEEP, "--jobs", "two"), "--jobs"),
        ((*SWEEP, "--device", "tpu"), "--device"),
        ((*SWEEP, "--executor", "dask"), "--executor"),
        ((*SWEEP, "--fast"), "--fast"),
        (("sweep", "spec.toml", "--out", "spec.toml"), "spec.toml"),
        (("sweep", "spec.toml", "--out", "spec.toml/out"), "spec.toml/out"),
        (("sweep", "spec.toml", "--out", "."), "other files"),
        (("status", "absent"), "absent"),
        (("fit", "absent"), "absent"),
        (("recommend", "absent", "--width", "64"), "absent"),
        (("report", "absent"), "absent"),
        (("tune", "absent"), "tune"),
    ],
)
def test_a_bad_argument_is_refused_by_name(refused: Refuse, arguments: tuple[str, ...], named: str) -> None:
    assert named in refused(*arguments)


def test_a_folder_with_another_spec_is_refused_by_key(refused: Refuse, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP]) == 0
    capsys.readouterr()
    assert "training.steps" in refused(*SWEEP, "--set", "training.steps=13")


def test_a_second_driver_is_refused(refused: Refuse, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP]) == 0
    capsys.readouterr()
    with driver_lock(Path("out")):
        message = refused(*SWEEP)
        assert "one driver per folder" in message and f"process {os.getpid()} on {platform.node()} since 2" in message
        assert main(["status", "out", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["running"] is True


DATA = """
import numpy as np

def arrays():
    x = np.random.default_rng(0).normal(size=(100, 8))
    y = (x[:, 0] > 0).astype(int)
    CHANGE
    return x[:60], y[:60], x[60:], y[60:]
"""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("x[3, 4] = np.nan", "x_train"),
        ("x[80, 4] = np.inf", "x_test"),
        ("raise KeyError('no such column')", "no such column"),
        ("return x, y", "x_train, y_train, x_test, y_test"),
        ("y = y[:-1]", "test"),
    ],
)
def test_unusable_data_of_a_user_is_named(
    refused: Refuse, tmp_path: Path, small_spec: str, change: str, named: str
) -> None:
    module = f"data_{hashlib.sha256(change.encode()).hexdigest()[:8]}"
    (tmp_path / f"{module}.py").write_text(DATA.replace("CHANGE", change))
    spec = small_spec.replace('name = "digits"\ntrain_size = 60\ntest_size = 40', f'name = "{module}:arrays"')
    (tmp_path / "spec.toml").write_text(spec)
    assert named in refused(*SWEEP)


def test_real_targets_need_their_loss_and_metric(refused: Refuse, tmp_path: Path, small_spec: str) -> None:
    (tmp_path / "data_real.py").write_text(DATA.replace("CHANGE", "y = x[:, :2] * 0.5"))
    spec = small_spec.replace('name = "digits"\ntrain_size = 60\ntest_size = 40', 'name = "data_real:arrays"')
    (tmp_path / "spec.toml").write_text(spec)
    assert "training.loss" in refused(*SWEEP)
    assert "fit.metric" in refused(*SWEEP, "--set", 'training.loss="mse"')
    assert main([*SWEEP, "--set", 'training.loss="mse"', "--set", 'fit.metric="loss"']) == 0


def test_a_truncated_idx_file_is_named(refused: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    monkeypatch.setenv("NOISESCALE_DATA", str(tmp_path / "data"))
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        content = gzip.compress(b"\x00\x00\x08\x03" + bytes(100))
        (folder / f"{name}-ubyte.gz").write_bytes(content[: len(content) // 2])
    message = refused(*SWEEP, "--set", 'dataset.name="mnist"')
    assert "-ubyte.gz" in message


class Executes:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def test_a_pickle_that_executes_code_is_refused(
    refused: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    monkeypatch.setenv("NOISESCALE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("noisescale.datasets.cifar10.check_md5", lambda *arguments: None, raising=False)
    for name in ("batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (folder / name).write_bytes(pickle.dumps({b"data": Executes(), b"labels": [0]}))
    message = refused(*SWEEP, "--set", 'dataset.name="cifar10"')
    assert "cifar-10-batches-py" in message
    assert not (tmp_path / "executed").exists()


FACTORY = """
import os
from torch import is_grad_enabled, nn

class Broken(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner, self.outer, self.width = nn.Linear(64, width), nn.Linear(width, 10), width

    def forward(self, x):
        # This fails in training, but not when the driver tries the model.
        if self.width == 4 and is_grad_enabled() and os.path.exists("broken"):
            raise ValueError("this layer is out of order")
        return self.outer(self.inner(x.flatten(1)).relu())

def factory(width, input_shape, num_classes):
    return Broken(width)
"""


def test_failed_runs_give_exit_code_1_and_train_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model_of_user.py").write_text(FACTORY)
    (tmp_path / "broken").touch()
    arguments = [*SWEEP, "--set", 'model.family="model_of_user:factory"', "--set", "grid.width=[2, 4]"]
    assert main(arguments) == 1
    assert "this layer is out of order" in capsys.readouterr().err
    assert main(["status", "out"]) == 1
    assert "this layer is out of order" in capsys.readouterr().out
    (tmp_path / "broken").unlink()
    assert main(arguments) == 0
    assert main(["status", "out"]) == 0


def test_a_module_that_does_not_fit_the_data_is_refused(refused: Refuse, tmp_path: Path) -> None:
    (tmp_path / "model_that_fails.py").write_text(FACTORY.replace(".flatten(1)", ""))
    message = refused(*SWEEP, "--set", 'model.family="model_that_fails:factory"')
    assert "model.family" in message and "(2, 10)" in message


def test_batches_without_variance_and_vectors_as_images_are_refused(refused: Refuse, tmp_path: Path) -> None:
    batch = ("--set", 'model={family="convnet", normalization="batch"}', "--set")
    assert "grid.batch_size: at least 2" in refused(*SWEEP, *batch, "grid.batch_size=[1, 10]")
    assert "stability.batch_size: at least 2" in refused(*SWEEP, *batch, "stability.batch_size=[1]")
    (tmp_path / "vectors_of_user.py").write_text(
        "import numpy as np\ndef load():\n    return (np.eye(70), np.arange(70) % 3) * 2\n"
    )
    for family in ("convnet", "resnet"):
        message = refused(*SWEEP, "--set", 'dataset={name="vectors_of_user:load"}', "--set", f'model.family="{family}"')
        assert "or family 'mlp'" in message and "[70]" in message


def test_a_read_only_folder_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "study/report")

    monkeypatch.setattr("noisescale.store.Study.open", refuse)
    assert main(["report", "study"]) == 2
    assert capsys.readouterr().err == "noisescale: study/report: Read-only file system\n"
