"""Run and RunResult: what everything below and above speaks of.

A `Run` is the whole configuration of one training run; its id is a digest of that configuration, so the same
run has the same id in every study, and extending a grid never repeats one. A `RunResult` is what was found.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

Purpose = Literal["sweep", "stability"]
Status = Literal["completed", "diverged", "failed"]

# Raised whenever the same configuration would train differently, so that old results are never mistaken for new ones.
SEMANTICS = {"sweep": 1, "stability": 2}


@dataclass(frozen=True, slots=True)
class Run:
    """One training run, fully stated.

    Args:
        learning_rate: ε, the raw number that multiplies the parameterization's table.
        batch_size: B, in examples.
        steps: In steps of SGD.
        init_scale: σ0², the numerator of the initial weight variance σ0²/fan-in.
        weight_decay: λ of the parameterization's own coordinates (coupled: ½λ‖θ‖² in the loss).
        label_noise: Fractions of the training set.
        validation_fraction: Fractions of the training set.
        purpose: "sweep" for the grid, "stability" for the short ladder of the largest stable rate.
        groups: As `families.ModelOptions` says; blocks as a spec writes the list, because a column holds plain values.
        ghost_size: As `families.ModelOptions` says; blocks as a spec writes the list, because a column holds plain
            values.
        blocks: As `families.ModelOptions` says; blocks as a spec writes the list, because a column holds plain values.
        stem: As `families.ModelOptions` says; blocks as a spec writes the list, because a column holds plain values.
        scale_invariant: As `families.ModelOptions` says; blocks as a spec writes the list, because a column holds plain
            values.
        base_width: Where mup and improved_standard equal standard; None for parameterizations that do not use it.
        batch_statistics: "running" or "exact", with which batch normalization is evaluated.
        query_rows: For mup, the patterns of the rows that make an attention's queries, separated by spaces.
        schedule: As `Schedule.text` writes it; under one, learning_rate is its peak.
        epochs_budget: Where a schedule moves the batch size and the budget is one of epochs: their number.
        nesterov: Whether momentum looks ahead.
        decay: "coupled", "decoupled" or "independent", how weight decay enters.
        optimizer: A name in `training.OPTIMIZERS`.
        beta1: Of AdamW; None for other optimizers.
        beta2: Of AdamW; None for other optimizers.
        epsilon: Of AdamW; None for other optimizers.
        metrics: Metrics beyond loss and accuracy by which the run is evaluated, separated by spaces.
        no_decay: "gains", "biases" or both, separated by spaces: parameters without weight decay.
        clip_norm: Bound of the gradient's norm in the parameterization's coordinates; None for no bound.
        augmentation: Names in `AUGMENTATIONS`, separated by spaces.
        average: Whether late iterates are averaged.
        measure: Quantities measured along the way, separated by spaces;.
        measure_at: The shares of the budget at which;.
        measure_examples: On how many training examples.
    """

    dataset: str
    dataset_hash: str
    train_size: int
    test_size: int
    validation_fraction: float
    label_noise: float
    data_seed: int
    family: str
    depth: int
    activation: str
    normalization: str
    parameterization: str
    width: int
    learning_rate: float
    batch_size: int
    momentum: float
    weight_decay: float
    init_scale: float
    seed: int
    steps: int
    schedule: str
    evaluations: int
    late_fraction: float
    loss: str
    sampling: str
    precision: str
    purpose: Purpose = "sweep"
    groups: int | None = None
    ghost_size: int | None = None
    blocks: str | None = None
    stem: int | None = None
    scale_invariant: bool = False
    base_width: int | None = None
    query_rows: str = ""
    batch_statistics: str = "running"
    epochs_budget: float | None = None
    nesterov: bool = False
    decay: str = "coupled"
    clip_norm: float | None = None
    augmentation: str = ""
    average: bool = False
    measure: str = ""
    measure_at: str = ""
    measure_examples: int | None = None
    optimizer: str = "sgd"
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    no_decay: str = ""
    metrics: str = ""

    @property
    def run_id(self) -> str:
        """A digest of the whole configuration."""
        return _digest({**_without_defaults(self.as_dict()), "semantics": SEMANTICS[self.purpose]})

    def as_dict(self) -> dict[str, Any]:
        """Its keys and their values, which are plain (`dataclasses.asdict` copies each: ten times the time)."""
        return {name: getattr(self, name) for name in _NAMES}

    @property
    def shape_key(self) -> tuple[tuple[str, Any], ...]:
        """Everything that runs of one pack share: what changes the shape or the order of the computation."""
        values = _without_defaults({name: getattr(self, name) for name in _NAMES if name not in PER_RUN}, _LATEST_KEYS)
        return tuple(values.items())

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Run:
        record = modern_record(record)
        values: dict[str, Any] = {**LATER_KEYS, **{name: record[name] for name in _NAMES if name in record}}
        for name, own in values.items():
            if type(own) is str:  # a plan has a hundred thousand copies of the same texts
                values[name] = sys.intern(own)
        return cls(**values)


_NAMES = tuple(f.name for f in fields(Run))


# Keys that came after the first studies, with what those studies meant by leaving them out: at that value a key is no
# part of a run's identity, so that no finished run is forgotten.
LATER_KEYS: dict[str, Any] = {
    f.name: f.default for f in fields(Run) if f.default is not MISSING and f.name != "purpose"
}

# Version 0.1 had one decay apart from the gradient and called it "decoupled"; it is "independent" now. A run's id keeps
# the word that it was first made of, so that no finished run is forgotten.
_DECAY_IN_IDS = {"independent": "decoupled", "decoupled": "decoupled by the tensor's rate"}

# Keys that came with version 0.2: a shape at their defaults has the name that version 0.1 gave it.
_LATEST_KEYS = ("optimizer", "no_decay", "metrics")


def modern_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return a stored record in today's words; version 0.1 did not write an optimizer."""
    if "optimizer" in record or record.get("decay") != "decoupled":
        return record
    return {**record, "decay": "independent"}


def _without_defaults(values: dict[str, Any], names: Iterable[str] | None = None) -> dict[str, Any]:
    """Drop later keys at their defaults, and write the decay as ids do."""
    dropped = {name for name in (LATER_KEYS if names is None else names) if values[name] == LATER_KEYS[name]}
    return {
        name: _DECAY_IN_IDS.get(value, value) if name == "decay" else value
        for name, value in values.items()
        if name not in dropped
    }


# Held as tensors along the pack's run axis; everything else is part of the pack's shape.
PER_RUN = ("learning_rate", "momentum", "beta1", "beta2", "epsilon", "weight_decay", "init_scale", "seed")


@dataclass(slots=True)
class RunResult:
    """What one run found: its late-time means, its curves and the noise scale of every layer.

    Args:
        late_means: The mean of each curve over the evaluations of the late window.
        chance: By metric, the value of the best constant predictor on the training set.
        drifts: The mean over the late window minus the mean over the window of equal length before it.
        averaged: What the average of late iterates reaches, where it was asked for.
        curves: One list per quantity, an entry per evaluation, beginning at step 0.
        layers: One row per parameter: its fan-in, initial standard deviation, rate multiplier, ḡ_l.
        noise: The measures of noise that the optimizer has, by column; missing measures are NaN in a study.
        seconds: The pack's time divided by its number of runs.
        kernel: How the pack's runs were computed.
    """

    run: Run
    status: Status
    diverged_at_step: int | None
    collapsed: bool
    chance: dict[str, float]
    late_means: dict[str, float]
    drifts: dict[str, float]
    final: dict[str, float]
    best_test_accuracy: float
    curves: dict[str, list[float]]
    layers: list[dict[str, Any]] = field(default_factory=list)
    averaged: dict[str, float] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    device: str = "cpu"
    threads: int = 1
    kernel: str = "explicit"


def pack_id(runs: list[Run]) -> str:
    """The digest of a pack's run ids: the name of its shard."""
    return _digest(sorted(run.run_id for run in runs))


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
