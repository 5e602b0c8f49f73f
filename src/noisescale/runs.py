"""Runs and their results, the data types that all packages share.

A `Run` is the whole configuration of one training run. Its id is a digest of that configuration, so a run has the same
id in every study, and extending a grid never repeats a run. A `RunResult` holds the results of the run.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from noisescale.errors import control_characters

Purpose = Literal["sweep", "stability", "price"]
Status = Literal["completed", "diverged", "failed"]

# Increase a number when the same configuration trains differently, so that old results are not taken for new results.
SEMANTICS = {"sweep": 1, "stability": 2, "price": 1}


@dataclass(frozen=True, slots=True)
class Run:
    """The complete configuration of one training run.

    Args:
        dataset: Name of the data set.
        dataset_hash: Digest of the data set's arrays.
        train_size: Number of training examples N, without validation examples.
        test_size: Number of test examples.
        validation_fraction: Fraction of the chosen examples that becomes the validation set.
        label_noise: Fraction of the training labels that is redrawn uniformly over the classes.
        data_seed: Seed of the subset, the validation split and the label noise.
        family: Name of a model family, or "module:factory".
        depth: Number of hidden layers of an MLP or of convolutions of a convnet.
        activation: Name of the activation function.
        normalization: Name of the normalization.
        parameterization: Name of the parameterization.
        width: Width of the model.
        learning_rate: Learning rate ε, which the parameterization multiplies by c for each tensor. With a schedule, ε
            is the peak rate.
        batch_size: Batch size B, in examples.
        momentum: Momentum coefficient, from 0 to below 1.
        weight_decay: Weight decay λ in the parameterization's coordinates (coupled: ½λ‖θ‖² in the loss).
        init_scale: σ0², the numerator of the initial weight variance σ0²/fan-in.
        seed: Seed of the initial weights, the data order and the augmentation.
        steps: Training budget, in steps.
        schedule: The schedule as `Schedule.text` writes it.
        evaluations: Number of evaluations after step 0, evenly spaced, the last one at the end.
        late_fraction: Fraction of the budget, at its end, over which evaluations are averaged.
        loss: Name of the loss.
        sampling: How batches are drawn, "epoch_shuffle" or "with_replacement".
        precision: Precision of parameters and data, a name in `training.PRECISIONS`.
        purpose: "sweep" for the grid, "stability" for the stability ladder, "price" for the cells that measure what a
            larger rate costs.
        groups: Number of groups of channels for group normalization.
        ghost_size: Number of examples that ghost batch normalization normalizes together.
        blocks: Number of residual blocks per stage, as the text of a list, because a column holds plain values.
        stem: Number of channels of the first convolution of a residual network; None for the width.
        scale_invariant: True if the loss is invariant to the scale of each weight.
        base_width: The width at which mup and improved_standard equal standard; None for other parameterizations.
        query_rows: For mup, patterns of the rows that compute the queries of attention, separated by spaces.
        batch_statistics: "running" or "exact", the statistics with which batch normalization is evaluated.
        epochs_budget: Training budget in epochs, if the budget is in epochs and the schedule changes the batch size.
        nesterov: True for Nesterov momentum.
        decay: How weight decay enters: "coupled", "decoupled" or "independent".
        clip_norm: Largest norm of the gradient in the parameterization's coordinates; None for no clipping.
        augmentation: Names in `AUGMENTATIONS`, separated by spaces.
        average: True if an average of the iterates is also evaluated.
        measure: Quantities to measure during training, separated by spaces.
        measure_at: Fractions of the budget at which to measure, separated by spaces.
        measure_examples: Number of training examples to measure on.
        optimizer: A name in `training.OPTIMIZERS`.
        beta1: β1 of AdamW; None for other optimizers.
        beta2: β2 of AdamW; None for other optimizers.
        epsilon: The ε in the denominator of AdamW; None for other optimizers.
        no_decay: Kinds of parameters without weight decay ("gains", "biases"), separated by spaces.
        metrics: Metrics to evaluate beyond loss and accuracy, separated by spaces.
        class_weights: Weights of the classes in the cross-entropy: "balanced", or the text of a list.
        label_smoothing: Share of each label that is spread evenly over the classes.
        ignore_index: Label of the targets that do not count; None if all count.
        heads: Number of heads of a transformer.
        dropout: Probability of dropout of a transformer.
        tied: Whether the read-out of a transformer is its embedding of tokens.
        read_out: "tokens" or "mean" for a transformer, None for what the inputs suggest. "mean" (also None) or
            "flatten" for convolutions.
        outputs: Entry of the outputs of a user's module that the loss takes. None for the outputs themselves.
        average_decay: Decay of the exponential moving average of the iterates; None for the mean of the late iterates.
        rate_multipliers: Factors of the rate by pattern of parameter names, as the text of a JSON object.
        microbatch: Number of examples whose gradients are computed at once; None for the whole batch.
        checkpoint: Digest of the file of weights from which the run starts; empty for the module's initial weights.
        reinitialize: Patterns of the names of weights that do not start from the file, separated by spaces.
        fixed: True for one fixed model without a width. `width` is then 1.
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
    class_weights: str = ""
    label_smoothing: float = 0.0
    ignore_index: int | None = None
    heads: int | None = None
    dropout: float = 0.0
    tied: bool = False
    read_out: str | None = None
    outputs: str | None = None
    average_decay: float | None = None
    rate_multipliers: str = ""
    microbatch: int | None = None
    checkpoint: str = ""
    reinitialize: str = ""
    fixed: bool = False

    @property
    def run_id(self) -> str:
        """The id: a digest of the whole configuration."""
        return _digest({**_without_defaults(self.as_dict()), "semantics": SEMANTICS[self.purpose]})

    def has_id(self, run_id: str) -> bool:
        """Return whether this is the run's id, in this version or in an older one.

        Args:
            run_id: The id in a stored record.
        """
        values = _without_defaults(self.as_dict())
        versions = range(SEMANTICS[self.purpose], 0, -1)
        return any(_digest({**values, "semantics": version}) == run_id for version in versions)

    def as_dict(self) -> dict[str, Any]:
        """Return the values by key. `dataclasses.asdict` would copy each value and take ten times as long."""
        return {name: getattr(self, name) for name in _NAMES}

    @property
    def shape_key(self) -> tuple[tuple[str, Any], ...]:
        """The values that all runs of one pack share, because they determine the shape or order of the computation.

        A pack is a set of runs that train together.
        """
        values = _without_defaults({name: getattr(self, name) for name in _NAMES if name not in PER_RUN}, _LATEST_KEYS)
        return tuple(values.items())

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Run:
        """Build a run from a stored record, which may be of an older version.

        Args:
            record: Values by key. Other keys are ignored.

        Returns:
            The run.

        Raises:
            TypeError: A key is missing, or a text has control characters.
        """
        record = modern_record(record)
        values: dict[str, Any] = {**LATER_KEYS, **{name: record[name] for name in _NAMES if name in record}}
        for name, value in values.items():
            if type(value) is str:
                if control_characters(value):
                    raise TypeError(f"control characters in {name}")
                values[name] = sys.intern(value)  # a plan holds a hundred thousand copies of the same strings
        return cls(**values)


_NAMES = tuple(f.name for f in fields(Run))


# Keys that are newer than the first studies, with the values that these studies used implicitly. A key with this value
# does not enter a run's id, so that the ids of finished runs stay the same.
LATER_KEYS: dict[str, Any] = {
    f.name: f.default for f in fields(Run) if f.default is not MISSING and f.name != "purpose"
}

# Version 0.1 had one form of weight decay outside the gradient and called it "decoupled". Now it is called
# "independent". Ids still use the name of version 0.1, so that the ids of finished runs stay the same.
_DECAY_IN_IDS = {"independent": "decoupled", "decoupled": "decoupled by the tensor's rate"}

# Keys that version 0.2 added. At their defaults they do not enter `shape_key`, so that it is the same as in version
# 0.1.
_LATEST_KEYS = (
    "optimizer",
    "no_decay",
    "metrics",
    "class_weights",
    "label_smoothing",
    "ignore_index",
    "heads",
    "dropout",
    "tied",
    "read_out",
    "outputs",
    "average_decay",
    "rate_multipliers",
    "microbatch",
    "checkpoint",
    "reinitialize",
    "fixed",
)


def modern_record(record: dict[str, Any]) -> dict[str, Any]:
    """Translate a stored record to the words of this version. Version 0.1 stored no optimizer.

    Args:
        record: Values by key.

    Returns:
        The record, with "independent" in place of the "decoupled" decay of version 0.1.
    """
    if "optimizer" in record or record.get("decay") != "decoupled":
        return record
    return {**record, "decay": "independent"}


def _without_defaults(values: dict[str, Any], names: Iterable[str] | None = None) -> dict[str, Any]:
    """Drop newer keys that have their default, and give the decay the name that ids use."""
    dropped = {name for name in (LATER_KEYS if names is None else names) if values[name] == LATER_KEYS[name]}
    return {
        name: _DECAY_IN_IDS.get(value, value) if name == "decay" else value
        for name, value in values.items()
        if name not in dropped
    }


# Keys that may differ between the runs of a pack. A pack stores their values as tensors with one entry per run. All
# other keys are part of the pack's shape.
PER_RUN = ("learning_rate", "momentum", "beta1", "beta2", "epsilon", "weight_decay", "init_scale", "seed")


@dataclass(slots=True)
class RunResult:
    """The results of one run: means over the end of training, curves, and the noise scale of every layer.

    The late window is the last part of training, over which evaluations are averaged.

    Args:
        run: The run.
        status: "completed", "diverged" or "failed".
        diverged_at_step: The step at which divergence was detected; None if the run did not diverge.
        collapsed: True if the run completed without learning: its training result is about that of a constant
            predictor.
        chance: The value of each metric for the best constant predictor on the training set, by metric.
        late_means: The mean over the evaluations of the late window, by curve.
        drifts: The mean over the late window minus the mean over the window of equal length before it, by curve.
        final: The last value, by curve.
        best_test_accuracy: The largest test accuracy of all evaluations; NaN if accuracy was not evaluated.
        curves: One value per evaluation, starting at step 0, by quantity.
        layers: One row per parameter: fan-in, initial variance, rate multiplier and normalized noise scale ḡ.
        averaged: The results of the average of late iterates, if the run asks for this average.
        noise: The optimizer's measures of noise, by column. Measures that the optimizer lacks are NaN in a study.
        seconds: The time of the pack divided by its number of runs, in seconds.
        device: The device that trained the run.
        threads: Number of threads that trained the pack.
        kernel: The kernel that computed the pack ("explicit", "vmap", "unfolded" or "loop").
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
    """Return the id of a pack, the digest of its run ids.

    Args:
        runs: The runs of the pack, in any order.

    Returns:
        16 hexadecimal digits.
    """
    return pack_id_of(run.run_id for run in runs)


def pack_id_of(run_ids: Iterable[str]) -> str:
    """Return the id of a pack.

    Args:
        run_ids: The ids of its runs, in any order.
    """
    return _digest(sorted(run_ids))


def id_entry(name: str, value: Any) -> str:
    """Return a key and its value as they enter the digest of a run's id. Empty for a newer key with its default.

    Args:
        name: A key of `Run`, or "semantics".
        value: Its value.
    """
    return _compact(_without_defaults({name: value}, [name] if name in LATER_KEYS else []))[1:-1]


def id_of_entries(entries: Iterable[str]) -> str:
    """Return the id of a run. For many runs this is faster than `Run.run_id`, because entries repeat.

    Args:
        entries: Values of `id_entry` for every key of `Run` and for "semantics", in the order of the keys.
    """
    return _digest_of_text("{" + ",".join(filter(None, entries)) + "}")


def _digest(value: Any) -> str:
    return _digest_of_text(_compact(value))


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
