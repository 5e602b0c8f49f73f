"""Specs as dictionaries, their mutations, and their text in TOML."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

from hypothesis import strategies as st

VALID: dict[str, Any] = {
    "name": "fuzz",
    "seeds": 2,
    "dataset": {"name": "digits", "train_size": 60, "test_size": 40, "validation_fraction": 0.1, "label_noise": 0.1},
    "model": {
        "family": "mlp",
        "depth": 1,
        "activation": "relu",
        "normalization": "none",
        "scale_invariant": False,
    },
    "grid": {
        "parameterization": ["ntk"],
        "width": [2, 4],
        "batch_size": [5, 10],
        "learning_rate": {"from": 0.5, "to": 2.0, "factor": 2.0},
        "momentum": [0.0],
        "weight_decay": [0.0],
        "init_scale": [2.0],
    },
    "training": {
        "steps": 12,
        "evaluations": 4,
        "late_fraction": 0.25,
        "max_extensions": 1,
        "loss": "cross_entropy",
        "sampling": "subset",
        "precision": "float32",
        "schedule": {"kind": "constant"},
    },
    "measure": {"quantities": [], "at": [0.5], "examples": 16},
    "fit": {"select_on": "test", "metric": "accuracy", "extend_edges": True, "max_edge_rungs": 2},
    "stability": {"steps": 5, "seeds": 2, "batch_size": [10]},
}
# Tokens and labels of each, which have losses and metrics of their own.
OF_TOKENS: dict[str, Any] = {
    "name": "fuzz",
    "seeds": 1,
    "dataset": {"name": "language", "train_size": 40, "test_size": 20, "vocabulary": 4, "context": 5, "order": 1},
    "model": {"family": "transformer", "depth": 1, "heads": 1, "dropout": 0.0, "tied": False},
    "grid": {"parameterization": ["mup"], "width": [4], "batch_size": [4], "learning_rate": [0.01, 0.1]},
    "training": {
        "steps": 6,
        "evaluations": 2,
        "loss": "cross_entropy",
        "class_weights": [1.0, 2.0, 0.5, 1.0],
        "label_smoothing": 0.1,
        "ignore_index": 1,
    },
    "fit": {"metric": "perplexity", "extend_edges": False},
    "stability": {"seeds": 0},
}
OPTIONAL = [
    "grid.noise_scale", "grid.normalized_noise_scale", "grid.temperature", "grid.label_noise", "grid.steps",
    "grid.epochs", "training.epochs", "dataset.data_seed", "model.groups", "model.ghost_size", "model.blocks",
    "model.stem", "grid.base_width", "model.query_rows", "grid.schedule", "training.nesterov", "training.decay",
    "training.clip_norm", "training.augmentation", "training.average", "training.batch_statistics",
    "training.schedule.at", "training.schedule.factor", "training.schedule.final", "training.schedule.cycles",
    "training.schedule.warmup", "training.schedule.of", "training.schedule.largest_batch", "training.schedule.seed",
    "training.class_weights", "training.label_smoothing", "training.ignore_index", "dataset.vocabulary",
    "dataset.context", "dataset.order", "dataset.path", "dataset.multi_label", "dataset.standardize", "model.heads",
    "model.dropout", "model.read_out", "model.outputs", "fit.direction",
]  # fmt: skip

NUMBERS = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([2**31, 2**53, 2**53 + 1, 2**64, 10**400, 1e-320, 1e-300, 1e300, math.inf, math.nan, -0.0, 0.5]),
    st.floats(),
)
SCALARS = st.one_of(
    NUMBERS,
    st.booleans(),
    st.text(max_size=4),
    st.sampled_from(
        ["ntk", "own", "standard", "mup", "mse", "validation", "loss", "with_replacement", "float64", "tanh", "mpl",
         "a:b", "os:getcwd", "mnist1", "1e-3", "convnet", "resnet", "batch", "ghost_batch", "layer", "group",
         "step", "cosine", "linear", "cyclic", "halving", "random", "batch_size", "square", "decoupled", "flip",
         "binary_cross_entropy", "balanced", "perplexity", "f1_macro", "r2", "language", "text", "transformer",
         "os:_exit", "os.path:join", "a.b.c:d", ":", "../x:y", "<script>", "[/b]", "$x$", "exact", "lambda_max"]
    ),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
LADDERS = st.fixed_dictionaries({"from": NUMBERS, "to": NUMBERS, "factor": NUMBERS})


def paths(values: dict[str, Any], prefix: str = "") -> list[str]:
    """List the dotted keys of all values."""
    keys = []
    for key, value in values.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += paths(value, f"{prefix}{key}.")
    return keys


Mutation = tuple[str, str, Any, str]


def mutations_of(values: dict[str, Any]) -> st.SearchStrategy[list[Mutation]]:
    """Return a strategy of one to three changes of a spec."""
    change = st.tuples(
        st.sampled_from([*paths(values), *OPTIONAL]),
        st.one_of(st.just("delete"), st.just("add"), st.just("set")),
        st.one_of(VALUES, NUMBERS, st.lists(NUMBERS, min_size=1, max_size=3), LADDERS),
        st.text(min_size=1, max_size=6),
    )
    return st.lists(change, min_size=1, max_size=3)


def mutated(spec: dict[str, Any], mutations: list[Mutation]) -> dict[str, Any]:
    """Return a spec with some values deleted, extended or replaced."""
    values = copy.deepcopy(spec)
    for path, action, value, name in mutations:
        *sections, last = path.split(".")
        section: Any = values
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            continue
        if action == "delete":
            section.pop(last, None)
        elif action == "add" and isinstance(section.get(last), dict):
            section[last][name] = value
        else:
            section[last] = value
    return values


def as_toml(values: dict[str, Any]) -> str:
    """Write a dictionary as TOML. Only lone surrogates have no form, and no strategy here draws them."""
    return "".join(f"{_text(key)} = {_value(value)}\n" for key, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)} = {_value(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# Small values that fit together: every combination is a spec that can run.
_CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "grid.parameterization": st.sampled_from([["ntk"], ["standard"], ["own"], ["mup"], ["improved_standard"]]),
    "grid.width": st.sampled_from([[2], [3], [1, 2]]),
    "grid.batch_size": st.sampled_from([[5], [1], [54]]),
    "grid.momentum": st.sampled_from([[0.0], [0.9]]),
    "grid.weight_decay": st.sampled_from([[0.0], [0.01], [1e300]]),
    "grid.learning_rate": st.sampled_from([[0.5], [1e30], [1e-300]]),
    "model.depth": st.sampled_from([1, 2]),
    "model.activation": st.sampled_from(["relu", "tanh"]),
    "model.normalization": st.sampled_from(["none", "batch", "layer"]),
    "training.loss": st.sampled_from(["cross_entropy", "mse"]),
    "training.sampling": st.sampled_from(["subset", "epoch_shuffle", "with_replacement"]),
    "training.precision": st.sampled_from(["float32", "float64"]),
    "training.schedule": st.sampled_from([{"kind": "constant"}, {"kind": "cosine"}, {"kind": "linear"}]),
    "training.average": st.booleans(),
    "training.decay": st.sampled_from(["coupled", "decoupled"]),
    "seeds": st.sampled_from([1, [2**32 - 1]]),
    "stability.seeds": st.sampled_from([0, 1]),
    "fit.extend_edges": st.booleans(),
    "name": st.sampled_from(["", "x", "../../x", "<script>", "[/b]", "$\\x$", "\u0000", "a\nb"]),
}


_OF_TOKENS: dict[str, st.SearchStrategy[Any]] = {
    "grid.parameterization": st.sampled_from([["mup"], ["own"], ["standard"]]),
    "grid.optimizer": st.sampled_from([["sgd"], ["adamw"]]),
    "dataset.vocabulary": st.sampled_from([2, 4]),
    "dataset.context": st.sampled_from([1, 5]),
    "model.dropout": st.sampled_from([0.0, 0.5]),
    "model.tied": st.booleans(),
    "training.class_weights": st.sampled_from(["balanced", [1.0, 0.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1e300]]),
    "training.label_smoothing": st.sampled_from([0.0, 0.3]),
    "training.ignore_index": st.sampled_from([-1, 0, 3]),
    "training.loss": st.sampled_from(["cross_entropy", "mse", "binary_cross_entropy"]),
    "fit.metric": st.sampled_from(["perplexity", "loss", "accuracy", "balanced_accuracy", "f1_macro", "r2"]),
}


def _small(spec: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    values = copy.deepcopy(spec)
    for path, value in chosen.items():
        section, _, last = path.rpartition(".")
        (values[section] if section else values)[last] = value
    return values


RUNNABLE = st.fixed_dictionaries(_CHOICES).map(lambda chosen: _small(VALID, chosen))
# Most combinations of options of a loss are refused, so they are optional.
RUNNABLE_OF_TOKENS = st.fixed_dictionaries({}, optional=_OF_TOKENS).map(lambda chosen: _small(OF_TOKENS, chosen))
