"""Whatever is written into a spec, checking it gives a grid or one message that names a key; nothing else, ever."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noisescale.errors import BadInput
from noisescale.sweeps import SweepSpec
from noisescale.sweeps.dry_run import dry_run

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
    "fit": {"select_on": "test", "metric": "accuracy", "extend_edges": True, "max_edge_rungs": 2},
    "stability": {"steps": 5, "seeds": 2, "batch_size": [10]},
}
OPTIONAL = [
    "grid.noise_scale", "grid.normalized_noise_scale", "grid.temperature", "grid.label_noise", "grid.steps",
    "grid.epochs", "training.epochs", "dataset.data_seed", "model.groups", "model.ghost_size", "model.blocks",
    "model.stem", "grid.base_width", "model.query_rows", "grid.schedule", "training.nesterov", "training.decay",
    "training.clip_norm", "training.augmentation", "training.average", "training.schedule.at",
    "training.schedule.factor", "training.schedule.final", "training.schedule.cycles", "training.schedule.warmup",
    "training.schedule.of", "training.schedule.largest_batch", "training.schedule.seed",
]  # fmt: skip


def paths(values: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += paths(value, f"{prefix}{key}.")
    return found


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
         "step", "cosine", "linear", "cyclic", "halving", "random", "batch_size", "square", "decoupled", "flip"]
    ),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
LADDERS = st.fixed_dictionaries({"from": NUMBERS, "to": NUMBERS, "factor": NUMBERS})
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from([*paths(VALID), *OPTIONAL]),
        st.one_of(st.just("delete"), st.just("add"), st.just("set")),
        st.one_of(VALUES, NUMBERS, st.lists(NUMBERS, min_size=1, max_size=3), LADDERS),
        st.text(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=3,
)


def mutate(values: dict[str, Any], path: str, action: str, value: Any, name: str) -> None:
    *sections, last = path.split(".")
    section: Any = values
    for part in sections:
        section = section.get(part)
        if not isinstance(section, dict):
            return
    if action == "delete":
        section.pop(last, None)
    elif action == "add" and isinstance(section.get(last), dict):
        section[last][name] = value
    else:
        section[last] = value


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "out"


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(mutations=MUTATIONS)
def test_any_mutation_is_accepted_or_refused_by_name(out: Path, mutations: list[tuple[str, str, Any, str]]) -> None:
    values = copy.deepcopy(VALID)
    for mutation in mutations:
        mutate(values, *mutation)
    try:
        estimate = dry_run(SweepSpec.from_dict(values), out)
    except BadInput as error:
        assert error.name
        assert "Got: " in str(error) or error.required
    else:
        assert estimate.runs > 0
        assert list(estimate.lines())
    assert not out.exists()
