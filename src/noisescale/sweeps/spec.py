"""`SweepSpec`: what to run, as a TOML file states it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from noisescale.datasets import DatasetOptions
from noisescale.errors import BadInput, did_you_mean
from noisescale.families import NORMALIZATIONS, ModelOptions, complete
from noisescale.measure import INSTRUMENTS
from noisescale.parameterizations import PARAMETERIZATIONS, WITH_BASE_WIDTH, check_query_rows
from noisescale.runs import Run
from noisescale.sweeps.axes import LARGEST_INTEGER, Fractions, Momenta, NonNegative, Rates, Sizes
from noisescale.training import (
    AUGMENTATIONS,
    DECAYS,
    LOSSES,
    METRICS,
    NO_DECAY,
    OPTIMIZERS,
    PRECISIONS,
    SAMPLINGS,
    Schedule,
    schedule_from,
)


def _one_of(names: Iterable[str]) -> BeforeValidator:
    """One name of a table, which is read at each check: rows may be added to it."""

    def check(value: Any) -> Any:
        known = tuple(names)
        if value not in known:
            raise ValueError(f"one of {', '.join(map(repr, known))}{did_you_mean(value, known)}")
        return value

    return BeforeValidator(check)


def _names_from(table: Iterable[str]) -> BeforeValidator:
    """A non-empty list of names from a table, each once, in the order given."""

    def check(value: Any) -> tuple[str, ...]:
        known = tuple(table)
        if not isinstance(value, list | tuple) or not value or any(name not in known for name in value):
            raise ValueError(f"a non-empty list of names from {', '.join(map(repr, known))}")
        return tuple(dict.fromkeys(value))

    return BeforeValidator(check)


def _patterns(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not value or any(not isinstance(entry, str) for entry in value):
        raise ValueError("a non-empty list of weights that make queries, e.g. ['blocks.*.qkv.weight[:1/3]']")
    try:
        check_query_rows(value)
    except BadInput as error:
        raise ValueError(error.required) from None
    return tuple(dict.fromkeys(value))


def _seeds(value: Any) -> Any:
    entries = range(value) if type(value) is int and 0 < value <= MOST_SEEDS else value
    whole = isinstance(entries, list | tuple | range) and all(type(e) is int and 0 <= e < SEEDS_BELOW for e in entries)
    if not whole or not entries:
        raise ValueError(
            f"a number of seeds from 1 to {MOST_SEEDS}, or a non-empty list of whole numbers from 0 to below 2^32"
        )
    return tuple(dict.fromkeys(entries))


def _blocks(value: Any) -> Any:
    whole = isinstance(value, list | tuple) and all(type(e) is int and 0 < e <= MOST_BLOCKS for e in value)
    if not whole or not 0 < len(value) <= MOST_STAGES:
        raise ValueError(f"a list of 1 to {MOST_STAGES} stages, each a whole number of blocks from 1 to {MOST_BLOCKS}")
    return tuple(value)


def _schedule(value: Any) -> Schedule:
    if isinstance(value, Schedule):
        return value
    if not isinstance(value, dict):
        raise ValueError("a table such as { kind = 'cosine' }")
    try:
        return schedule_from(value)
    except BadInput as error:
        raise ValueError(f"for its key {error.name!r} {error.required}; got {error.got}") from None


def _schedules(value: Any) -> tuple[Schedule, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("a non-empty list of tables such as { kind = 'cosine' }")
    return tuple(dict.fromkeys(map(_schedule, value)))


def _some_of(names: Iterable[str]) -> BeforeValidator:
    """Any names of a table, each once, in the order of the table."""

    def check(value: Any) -> tuple[str, ...]:
        known = tuple(names)
        if not isinstance(value, list | tuple) or any(name not in known for name in value):
            raise ValueError(f"a list of names from {', '.join(map(repr, known))}")
        return tuple(name for name in known if name in value)

    return BeforeValidator(check)


def _shares(value: Any) -> tuple[float, ...]:
    numbers = isinstance(value, list | tuple) and all(type(one) in (int, float) and 0 <= one <= 1 for one in value)
    if not numbers or not 0 < len(value) <= MOST_SHARES:
        raise ValueError(f"a list of 1 to {MOST_SHARES} shares of the budget, each from 0 to 1")
    return tuple(sorted({float(one) for one in value}))


# Bounds far above what is meant, so that a slip of the pen is refused rather than fills the memory; a seed fits
# every generator and column.
MOST_SEEDS, SEEDS_BELOW = 10_000, 2**32
MOST_STAGES, MOST_BLOCKS, MOST_STEM = 8, 200, 2**16
MOST_SHARES = 1000

Blocks = Annotated[tuple[int, ...], BeforeValidator(_blocks)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(_seeds)]
Count = Annotated[int, Field(gt=0, le=LARGEST_INTEGER)]
Quantities = Annotated[tuple[str, ...], _some_of(INSTRUMENTS)]
Shares = Annotated[tuple[float, ...], BeforeValidator(_shares)]
Augmentations = Annotated[tuple[str, ...], _some_of(AUGMENTATIONS)]
_as_table = PlainSerializer(lambda schedule: schedule.table)
OneSchedule = Annotated[Schedule, PlainValidator(_schedule), _as_table]
Schedules = Annotated[
    tuple[Schedule, ...],
    PlainValidator(_schedules),
    PlainSerializer(lambda schedules: [one.table for one in schedules] if schedules else None),
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DatasetSection(_Section):
    """Which data; every run of a sweep sees the same subset, split and label noise."""

    name: str
    train_size: Count | None = None
    test_size: Count | None = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    label_noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    data_seed: Annotated[int, Field(ge=0, lt=SEEDS_BELOW)] = 0

    def options(self, label_noise: float) -> DatasetOptions:
        return DatasetOptions(**{**self.model_dump(), "label_noise": label_noise})


class ModelSection(_Section):
    """Which family, and its options as `families.ModelOptions` explains them; width belongs to the grid."""

    family: str
    depth: Annotated[int, Field(gt=0, le=1000)] = ModelOptions.depth
    activation: str = ModelOptions.activation
    normalization: Annotated[str, _one_of(NORMALIZATIONS)] = ModelOptions.normalization
    groups: Count | None = ModelOptions.groups
    ghost_size: Annotated[int, Field(ge=2, le=LARGEST_INTEGER)] | None = ModelOptions.ghost_size
    blocks: Blocks | None = ModelOptions.blocks
    stem: Annotated[int, Field(gt=0, le=MOST_STEM)] | None = ModelOptions.stem
    scale_invariant: bool = ModelOptions.scale_invariant
    # Weights that make an attention's queries, for mup: their rows absorb 1/√d_head → 1/d_head.
    query_rows: Patterns | None = None

    def options(self) -> ModelOptions:
        """The options, with the defaults of the family filled in; refuses what the family does not take."""
        return complete(ModelOptions(**{f.name: getattr(self, f.name) for f in fields(ModelOptions)}))


class GridSection(_Section):
    """The cross product of every list here."""

    width: Sizes
    batch_size: Sizes
    parameterization: Annotated[tuple[str, ...], _names_from(PARAMETERIZATIONS)] = ("ntk",)
    optimizer: Annotated[tuple[str, ...], _names_from(OPTIMIZERS)] = ("sgd",)
    learning_rate: Rates | None = None
    noise_scale: Rates | None = None
    normalized_noise_scale: Rates | None = None
    temperature: Rates | None = None
    # Hyperparameters of optimizers; None: the optimizer's default, and no axis of the others.
    momentum: Momenta = (0.0,)
    beta1: Momenta | None = None
    beta2: Momenta | None = None
    epsilon: Rates | None = None
    weight_decay: NonNegative = (0.0,)
    # He, Zhang, Ren, Sun 2015: 2/fan-in keeps the size of ReLU activations.
    init_scale: Rates = (2.0,)
    label_noise: Fractions | None = None
    schedule: Schedules | None = None
    steps: Sizes | None = None
    epochs: Rates | None = None
    # Where mup and improved_standard equal standard; by default the smallest width, written out, so that a grid that
    # grows towards smaller widths cannot move it unseen.
    base_width: Annotated[Count | None, Field(validate_default=True)] = None

    @field_validator("base_width")
    @classmethod
    def _base_width_where_it_is_used(cls, value: int | None, info: ValidationInfo) -> int | None:
        used = any(name in WITH_BASE_WIDTH for name in info.data.get("parameterization", WITH_BASE_WIDTH))
        if value is not None and not used:
            names = " or ".join(WITH_BASE_WIDTH)
            raise ValueError(f"no base width where grid.parameterization names neither {names}; got {value}")
        return min(info.data["width"]) if value is None and used and "width" in info.data else value

    @property
    def rate_axis(self) -> str:
        """The one axis that fixes the learning rate of each run."""
        return next(name for name in RATE_AXES if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one_rate_axis(self) -> GridSection:
        given = [name for name in RATE_AXES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(RATE_AXES)}; got {', '.join(given) or 'none'}")
        return self

    @model_validator(mode="after")
    def _axes_that_an_optimizer_has(self) -> GridSection:
        rows = [OPTIMIZERS[name] for name in self.optimizer]
        names = ", ".join(map(repr, self.optimizer))
        measure = "noise_scale" if self.rate_axis == "normalized_noise_scale" else self.rate_axis
        for row in rows:
            if measure != "learning_rate" and (row.noise is None or measure not in row.noise):
                raise ValueError(
                    f"learning_rate as the axis of rates with the optimizer {row.name!r}; got {self.rate_axis}"
                )
        for key in ("momentum", "beta1", "beta2", "epsilon"):
            given = getattr(self, key) not in (None, type(self).model_fields[key].default)
            if given and not any(key in row.hyperparameters for row in rows):
                raise ValueError(f"no {key}, which the optimizers {names} do not have; got {getattr(self, key)}")
        return self


RATE_AXES = ("learning_rate", "noise_scale", "normalized_noise_scale", "temperature")


class TrainingSection(_Section):
    """How each run is trained and looked at."""

    steps: Count | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    schedule: OneSchedule = Schedule()
    # Of momentum; a run without momentum is the same either way.
    nesterov: bool = False
    # By default "coupled" for SGD and "decoupled" for AdamW.
    decay: Annotated[str, _one_of(DECAYS)] | None = None
    no_decay: Annotated[tuple[str, ...], _some_of(NO_DECAY)] = ()
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    augmentation: Augmentations = ()
    # What the mean of the late iterates reaches, beside the mean of what they reach.
    average: bool = False
    # Five evaluations in a late window of a quarter of the budget, and five in the window before it.
    evaluations: Annotated[int, Field(ge=2, le=10_000)] = 20
    late_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    max_extensions: Annotated[int, Field(ge=0, le=10)] = 0
    loss: Annotated[str, _one_of(LOSSES)] = "cross_entropy"
    sampling: Annotated[str, _one_of(SAMPLINGS)] = "epoch_shuffle"
    precision: Annotated[str, _one_of(PRECISIONS)] = "float32"
    # "exact": before every evaluation the statistics are measured on the whole training set, layer after layer.
    batch_statistics: Literal["running", "exact"] = "running"


NOT_MEASURED: dict[str, Any] = {"measure": "", "measure_at": "", "measure_examples": None}


class MeasureSection(_Section):
    """What is measured along the training of every run of the grid, and stored with its curves."""

    quantities: Quantities = ()
    at: Shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    # Their gradients' spread is within 6 % of the training set's where per-example norms vary as an exponential does.
    examples: Annotated[int, Field(ge=16, le=LARGEST_INTEGER)] = 512

    def run_fields(self) -> dict[str, Any]:
        """The fields of `Run` that say it; without quantities those of a run that is not measured."""
        if not self.quantities:
            return NOT_MEASURED
        at = " ".join(map(repr, self.at))
        return {"measure": " ".join(self.quantities), "measure_at": at, "measure_examples": self.examples}


class FitSection(_Section):
    """How the optimum is chosen, and whether a ladder grows towards it."""

    select_on: Literal["test", "validation"] = "test"
    metric: Annotated[str, _one_of(METRICS)] = "accuracy"
    extend_edges: bool = True
    # Two octaves of a √2 ladder beyond the stated end, after which an optimum there is left censored.
    max_edge_rungs: Annotated[int, Field(ge=0, le=100)] = 4


class StabilitySection(_Section):
    """The short ladder of the largest stable rate; seeds = 0 leaves it out."""

    steps: Count = 300
    seeds: Annotated[int, Field(ge=0, le=MOST_SEEDS)] = 10
    batch_size: Sizes | None = None


class SweepSpec(_Section):
    """A sweep: data, model, grid, training, fit and stability ladder.

    Args:
        seeds: Their number (0, 1, …) or an explicit list.

    Raises:
        BadInput (from the constructors `from_toml`, `from_dict`): the key, what is required and what was got.
    """

    name: str
    seeds: Seeds
    dataset: DatasetSection
    model: ModelSection
    grid: GridSection
    training: TrainingSection
    measure: MeasureSection = MeasureSection()
    fit: FitSection = FitSection()
    stability: StabilitySection = StabilitySection()

    @model_validator(mode="after")
    def _one_budget(self) -> SweepSpec:
        places = {
            "training.steps": self.training.steps,
            "training.epochs": self.training.epochs,
            "grid.steps": self.grid.steps,
            "grid.epochs": self.grid.epochs,
        }
        given = [name for name, value in places.items() if value is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(places)}; got {', '.join(given) or 'none'}")
        if self.grid.label_noise is not None and self.dataset.label_noise:
            raise ValueError("label noise in one place, dataset.label_noise or grid.label_noise; got both")
        if self.grid.schedule is not None and self.training.schedule != Schedule():
            raise ValueError("schedules in one place, training.schedule or grid.schedule; got both")
        for name in self.grid.optimizer:
            optimizer = OPTIMIZERS[name]
            try:
                optimizer.check(decay=self.training.decay or optimizer.decays[0], nesterov=self.training.nesterov)
            except BadInput as error:
                raise ValueError(f"for {error.name} {error.required}; got {error.got}") from None
        if self.training.nesterov and not any(self.grid.momentum):
            raise ValueError("a momentum above 0 in grid.momentum where training.nesterov is true; got none")
        return self

    def runs(self) -> list[Run]:
        """Every run of the grid, with the learning rate that a noise axis gives it; loads the data.

        Raises:
            BadInput: The data or the model cannot be used.
        """
        # The grid is made of this spec, so it can only be imported once this module exists.
        from noisescale.sweeps.grid import Grid

        grid = Grid(self)
        grid.check()
        return grid.runs()

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "the spec") -> SweepSpec:
        """Check a dictionary; the first fault is reported by its key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _first_fault(error, source) from None

    @classmethod
    def from_toml(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> SweepSpec:
        """Read a TOML file.

        Args:
            path: The file.
            overrides: `"section.key=value"`, the value written as in TOML.
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(str(path), "a readable spec file", error.strerror) from None
        except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or nested deeper than the parser goes
            raise BadInput(str(path), "a TOML file", error) from None
        for override in overrides:
            _apply(values, override)
        return cls.from_dict(values, str(path))


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    *sections, last = key.strip().split(".")
    try:
        value = tomllib.loads(f"value = {text}")["value"] if separator else None
    except (ValueError, RecursionError):
        value = None
    if value is None or not last:
        raise BadInput("--set", "key=value with the value written as in TOML, e.g. training.steps=100", repr(override))
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise BadInput("--set", f"a key inside a section; {section!r} is a value", repr(override))
    values[last] = value


def _first_fault(error: ValidationError, source: str) -> BadInput:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"])
    got = fault["input"]
    if fault["type"] == "extra_forbidden":
        known = ", ".join(_known_keys(fault["loc"]))
        return BadInput(f"{source}: {key}", f"a known key; in this place: {known}", repr(fault["loc"][-1]))
    if fault["type"] == "missing":
        return BadInput(f"{source}: {key}", "this key, which has no default", "nothing")
    if fault["type"] == "model_type":
        return BadInput(f"{source}: {key}" if key else source, "a section with keys", _shown(got))
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    required, _, stated = message.partition("; got ")
    return BadInput(f"{source}: {key}" if key else source, required, stated or _shown(got))


def _shown(value: object) -> str:
    try:
        return repr(value)
    except RecursionError:
        return "values nested too deeply to be shown"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = SweepSpec
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return list(model.model_fields)
