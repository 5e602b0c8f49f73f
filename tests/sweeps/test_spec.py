from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps import SweepSpec

SMALLEST = """
name = "smallest"
seeds = 3
[dataset]
name = "digits"
[model]
family = "mlp"
[grid]
width = [4]
batch_size = [8]
learning_rate = [1]
[training]
steps = 10
"""


def change(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        values = values.setdefault(part, {})
    values[last] = value


def test_every_default(tmp_path: Path) -> None:
    path = tmp_path / "smallest.toml"
    path.write_text(SMALLEST)
    assert SweepSpec.from_toml(path).model_dump() == {
        "name": "smallest",
        "seeds": (0, 1, 2),
        "dataset": {
            "name": "digits",
            "train_size": None,
            "test_size": None,
            "validation_fraction": 0.0,
            "label_noise": 0.0,
            "data_seed": 0,
            "standardize": None,
            "vocabulary": None,
            "context": None,
            "path": None,
            "order": None,
            "multi_label": False,
        },
        "model": {
            "family": "mlp",
            "depth": 1,
            "activation": "relu",
            "normalization": "none",
            "groups": None,
            "ghost_size": None,
            "blocks": None,
            "stem": None,
            "scale_invariant": False,
            "heads": None,
            "dropout": 0.0,
            "tied": False,
            "read_out": None,
            "outputs": None,
            "query_rows": None,
            "rate_multipliers": None,
            "checkpoint": None,
            "reinitialize": None,
        },
        "grid": {
            "width": (4,),
            "batch_size": (8,),
            "parameterization": ("ntk",),
            "optimizer": ("sgd",),
            "learning_rate": (1.0,),
            "noise_scale": None,
            "normalized_noise_scale": None,
            "temperature": None,
            "momentum": (0.0,),
            "beta1": None,
            "beta2": None,
            "epsilon": None,
            "weight_decay": (0.0,),
            "init_scale": (2.0,),
            "label_noise": None,
            "schedule": None,
            "steps": None,
            "epochs": None,
            "train_size": None,
            "base_width": None,
        },
        "training": {
            "steps": 10,
            "epochs": None,
            "schedule": {"kind": "constant"},
            "nesterov": False,
            "decay": None,
            "no_decay": (),
            "clip_norm": None,
            "microbatch": None,
            "augmentation": (),
            "average": False,
            "evaluations": 20,
            "late_fraction": 0.25,
            "max_extensions": 0,
            "loss": "cross_entropy",
            "class_weights": None,
            "label_smoothing": 0.0,
            "ignore_index": None,
            "sampling": "epoch_shuffle",
            "precision": "float32",
            "batch_statistics": "running",
        },
        "measure": {"quantities": (), "at": (0.0, 0.25, 0.5, 0.75, 1.0), "examples": 512},
        "fit": {
            "select_on": "test",
            "metric": "accuracy",
            "direction": None,
            "extend_edges": True,
            "max_edge_rungs": 4,
        },
        "stability": {"steps": 300, "seeds": 10, "batch_size": None, "schedule": "run", "price": True},
    }


# Refused values: the key, the value, and a part of the message beside the key.
REFUSED = [
    ("batchsize", 3, "a known key; in this place: name, seeds"),
    ("grid.learning_rates", [1.0], "a known key; in this place: width, batch_size"),
    ("training.schedule", {"kind": "constant", "warmup": 5}, "for its key 'warmup' from 0 to below 1"),
    (
        "training.schedule",
        {"kind": "constant", "at": [0.5]},
        "the name of an option of 'constant': warmup, of",
    ),
    ("training.schedule", {"kind": "step", "at": [0.7, 0.2]}, "rising shares of the budget"),
    ("training.schedule", {"kind": "step", "at": [0.7], "factor": 2}, "between 0 and 1"),
    ("training.schedule", {"kind": "cosin"}, "did you mean 'cosine'?"),
    ("training.schedule", {"kind": "cyclic", "cycles": 2.5}, "a whole number"),
    ("training.schedule", {"kind": "cosine", "of": "batch_size", "warmup": 0.1}, "no warm-up if"),
    ("training.schedule", {"kind": "cosine", "largest_batch": 64}, "no bound if of = 'learning_rate'"),
    ("training.schedule", "cosine", "a table such as"),
    ("grid.schedule", [], "a non-empty list of tables"),
    ("grid.schedule", [{"kind": "cosine"}, {"kind": "linear", "final": 1.0}], "for its key 'final' from 0 to below 1"),
    ("model.rate_multipliers", {}, "a table of patterns of parameter names"),
    ("model.rate_multipliers", {"head.*": 0.0}, "numbers above 0"),
    ("training.average", "ema", "true, false, 'mean' or a table { ema = 0.999 }"),
    ("training.average", {"ema": 1.0}, "from 0 to below 1"),
    ("training.clip_norm", 0, "greater than 0"),
    ("training.decay", "decouple", "did you mean 'decoupled'?"),
    ("training.augmentation", ["flop"], "a list of names from 'flip', 'crop'"),
    ("training.nesterov", True, "a momentum above 0 in grid.momentum"),
    ("grid.learning_rate", [], "a non-empty list of numbers above 0"),
    ("grid.learning_rate", [-0.1], "Got: the entry -0.1."),
    ("grid.learning_rate", [math.nan], "Got: the entry nan."),
    ("grid.learning_rate", "1e-3", "'1e-3'"),
    ("grid.learning_rate", ["1e-3"], "Got: the entry '1e-3'."),
    ("grid.learning_rate", {"from": 2.0, "to": 1.0, "factor": 2.0}, "0 < from <= to and factor > 1"),
    ("grid.width", [], "a non-empty list of whole numbers"),
    ("grid.width", [4.5], "Got: the entry 4.5."),
    ("grid.width", 4, "a non-empty list of whole numbers"),
    ("grid.batch_size", [0], "Got: the entry 0."),
    ("grid.parameterization", [], "'standard'"),
    ("grid.parameterization", ["nkt"], "'ntk'"),
    ("grid.parameterization", [["ntk"]], "'ntk'"),
    ("grid.parameterization", "ntk", "a non-empty list"),
    ("grid.momentum", [1.0], "from 0 to below 1"),
    ("grid.weight_decay", [-1.0], "of at least 0"),
    ("grid.noise_scale", [10.0], "exactly one of learning_rate, noise_scale"),
    ("grid", 3, "a section"),
    ("seeds", 0, "a number of seeds"),
    ("seeds", [], "a number of seeds"),
    ("seeds", [0, -1], "a number of seeds"),
    ("seeds", True, "a number of seeds"),
    ("seeds", 10**9, "a number of seeds from 1 to"),
    ("seeds", [2**64], "below 2^32"),
    ("training.steps", 0, "greater than 0"),
    ("training.steps", 1.5, "integer"),
    ("training.steps", "100", "integer"),
    ("training.epochs", 2.0, "exactly one of training.steps, training.epochs"),
    ("grid.steps", [10], "exactly one of training.steps"),
    ("training.late_fraction", 0.6, "0.5"),
    ("training.evaluations", 1, "2"),
    ("training.loss", "cross-entropy", "'cross_entropy'"),
    ("training.sampling", "shuffle", "'epoch_shuffle'"),
    ("training.precision", "float16", "'float32'"),
    ("training.schedule.kind", "cosines", "'constant'"),
    ("model.normalization", "bach", "did you mean 'batch'?"),
    ("model.normalization", ["batch"], "one of 'none', 'batch', 'ghost_batch', 'layer', 'group'"),
    ("model.depth", 0, "greater than 0"),
    ("model.groups", 0, "greater than 0"),
    ("model.groups", 2.0, "integer"),
    ("model.ghost_size", 1, "greater than or equal to 2"),
    ("model.blocks", [], "a list of 1 to 8 stages"),
    ("model.blocks", [1, 0], "a whole number of blocks from 1"),
    ("model.blocks", [True], "a list of 1 to 8 stages"),
    ("model.blocks", 3, "a list of 1 to 8 stages"),
    ("model.stem", 0, "greater than 0"),
    ("model.stem", 2**40, "less than or equal to"),
    ("model.scale_invariant", 1, "boolean"),
    ("fit.metric", "acc", "'accuracy'"),
    ("fit.extend_edges", "yes", "boolean"),
    ("stability.seeds", -1, "0"),
    ("dataset.validation_fraction", 1.0, "less than 1"),
    ("dataset.validation_fraction", math.nan, "finite"),
    ("dataset.data_seed", -1, "0"),
    ("name", 5, "string"),
    ("grid.base_width", 0, "greater than 0"),
    ("grid.base_width", 4.5, "integer"),
    ("grid.base_width", 4, "names neither improved_standard or mup"),
    ("model.query_rows", "query.weight", "a non-empty list of weights that make queries"),
    ("model.query_rows", [], "a non-empty list of weights that make queries"),
    ("model.query_rows", ["qkv.weight[:64]"], "fractions of the tensor's rows"),
    ("model.query_rows", ["qkv.weight[1/3]"], "'name[from:to]'"),
    ("model.query_rows", ["qkv.weight[:1/0]"], "'name[from:to]'"),
]


@pytest.mark.parametrize(
    ("key", "value", "required"), REFUSED, ids=[f"{key}={value}"[:40] for key, value, _ in REFUSED]
)
def test_a_refused_key_is_named(plain: dict[str, Any], key: str, value: Any, required: str) -> None:
    change(plain, key, value)
    with pytest.raises(BadInput) as refused:
        SweepSpec.from_dict(plain, "my.toml")
    message = str(refused.value)
    assert message.startswith("my.toml")
    assert key.split(".")[-1] in message
    assert required in message
    assert "Got: " in message
    assert "\n" not in message


def test_the_base_width_is_by_default_the_smallest_and_written_out(plain: dict[str, Any]) -> None:
    change(plain, "grid.width", [8, 4])
    assert SweepSpec.from_dict(plain).grid.base_width is None
    change(plain, "grid.parameterization", ["ntk", "mup"])
    spec = SweepSpec.from_dict(plain)
    assert spec.grid.base_width == 4
    assert SweepSpec.from_dict(spec.model_dump()) == spec
    change(plain, "grid.base_width", 16)
    assert SweepSpec.from_dict(plain).grid.base_width == 16


@pytest.mark.parametrize("key", ["name", "seeds", "dataset", "grid.width", "grid.learning_rate", "training.steps"])
def test_a_missing_key_is_named(plain: dict[str, Any], key: str) -> None:
    *path, last = key.split(".")
    section = plain
    for part in path:
        section = section[part]
    del section[last]
    with pytest.raises(BadInput, match=last):
        SweepSpec.from_dict(plain)


def test_label_noise_is_stated_once(plain: dict[str, Any]) -> None:
    change(plain, "dataset.label_noise", 0.1)
    change(plain, "grid.label_noise", [0.0, 0.2])
    with pytest.raises(BadInput, match="dataset.label_noise or grid.label_noise"):
        SweepSpec.from_dict(plain)


def test_overrides_are_written_as_in_toml(tmp_path: Path) -> None:
    path = tmp_path / "smallest.toml"
    path.write_text(SMALLEST)
    overrides = (
        "training.steps=5",
        "grid.learning_rate={from = 1, to = 4, factor = 2}",
        'fit.metric="loss"',
        "seeds=1",
    )
    spec = SweepSpec.from_toml(path, overrides)
    assert (spec.training.steps, spec.grid.learning_rate, spec.fit.metric, spec.seeds) == (5, (1, 2, 4), "loss", (0,))


@pytest.mark.parametrize("override", ["training.steps", "=5", "training.steps=", "training.steps=five", "name.x=5"])
def test_a_malformed_override_is_shown(tmp_path: Path, override: str) -> None:
    path = tmp_path / "smallest.toml"
    path.write_text(SMALLEST)
    with pytest.raises(BadInput, match="--set") as refused:
        SweepSpec.from_toml(path, (override,))
    assert repr(override) in str(refused.value)


def test_a_file_that_is_not_a_spec_is_named(tmp_path: Path) -> None:
    absent, broken, binary = tmp_path / "absent.toml", tmp_path / "broken.toml", tmp_path / "binary.toml"
    broken.write_text("seeds = ")
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (absent, broken, binary, tmp_path):
        with pytest.raises(BadInput, match=str(path)):
            SweepSpec.from_toml(path)


@pytest.mark.parametrize(("text", "named"), [("a\x1b[31m", r"'\x1b'"), ("b\udcff", r"'\udcff'"), ("c\x07", r"'\x07'")])
def test_texts_that_could_steer_a_terminal_are_refused_by_key(text: str, named: str) -> None:
    with pytest.raises(BadInput, match="without control characters") as caught:
        SweepSpec.from_dict({"dataset": {"name": text}, "seeds": 1})
    assert f"{named} in dataset.name" in str(caught.value)


@pytest.mark.parametrize("text", ["two\u00a0words", "👩\u200d🔬", "a\tb", "two\nlines"])
def test_spaces_and_joined_emoji_are_not_refused(text: str, make_spec: Any) -> None:
    assert make_spec(name=text).name == text


def test_a_byte_order_mark_is_no_part_of_a_spec(tmp_path: Path, make_spec: Any) -> None:
    (tmp_path / "plain.toml").write_text("name = 'x'\nseeds = 0", encoding="utf-8")
    (tmp_path / "marked.toml").write_text("name = 'x'\nseeds = 0", encoding="utf-8-sig")
    messages = []
    for name in ("plain", "marked"):
        with pytest.raises(BadInput) as caught:
            SweepSpec.from_toml(tmp_path / f"{name}.toml")
        messages.append(str(caught.value).partition(": ")[2])
    assert messages[0] == messages[1] and "seeds" in messages[0]


@pytest.mark.parametrize("value", ["rows", 1])
def test_a_standardization_that_does_not_exist_is_refused(value: Any) -> None:
    with pytest.raises(BadInput, match="dataset.standardize: true, false or 'columns'"):
        SweepSpec.from_dict({"name": "x", "seeds": 1, "dataset": {"name": "digits", "standardize": value}})
