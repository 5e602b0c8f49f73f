"""The sections of a spec, each key with its row of the reference page; `[grid]` has a file to itself."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Field

from noisescale.datasets import KNOWN_DATASETS, DatasetOptions
from noisescale.families import ACTIVATIONS, FAMILIES, NORMALIZATIONS, ModelOptions, complete
from noisescale.measure import INSTRUMENTS
from noisescale.sweeps.axes import LARGEST_INTEGER, WholeNumbers
from noisescale.sweeps.spec_values import (
    MOST_SEEDS,
    MOST_STEM,
    SEEDS_BELOW,
    Blocks,
    Count,
    OneSchedule,
    Patterns,
    Section,
    Shares,
    choices,
    key,
    one_of,
    some_of,
)
from noisescale.training import (
    AUGMENTATIONS,
    DECAYS,
    LOSSES,
    METRICS,
    NO_DECAY,
    PRECISIONS,
    SAMPLINGS,
    Schedule,
)


class DatasetSection(Section):
    """The data. Every run of a sweep sees the same subset, split and label noise."""

    name: str = key(
        choices(KNOWN_DATASETS) + ', or `"package.module:function"`',
        "the data; a function of yours takes no argument and returns `(x_train, y_train, x_test, y_test)`: inputs "
        "[N, D], [N, C, L] or [N, C, H, W], integer labels or real-valued targets",
        "MNIST-1D: Greydanus, Kobak, arXiv:2011.14439",
    )
    train_size: Count | None = key(
        "whole number above 0",
        "examples drawn from the training set, before the validation split; not given: all (for `mnist1d` the "
        "published 4,000; more are generated, up to 1,000,000)",
        default=None,
    )
    test_size: Count | None = key(
        "whole number above 0",
        "test examples; not given: all (for `mnist1d` the published 1,000; more are generated, up to 1,000,000)",
        default=None,
    )
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = key(
        "number from 0 to below 1",
        "part of `train_size` that becomes the validation set; SGD sees the rest",
        default=0.0,
    )
    label_noise: Annotated[float, Field(ge=0, lt=1)] = key(
        "number from 0 to below 1",
        "part of the training labels that is redrawn uniformly over the classes; class labels only; 0 where "
        "`grid.label_noise` is given",
        default=0.0,
    )
    data_seed: Annotated[int, Field(ge=0, lt=SEEDS_BELOW)] = key(
        "whole number from 0 to below 2^32",
        "fixes subset, split and label noise",
        default=0,
    )

    def options(self, label_noise: float) -> DatasetOptions:
        """Return the options of the data set at one fraction of redrawn labels."""
        return DatasetOptions(**{**self.model_dump(), "label_noise": label_noise})


class ModelSection(Section):
    """The family of networks and its options. Widths belong to the grid."""

    family: str = key(
        choices(FAMILIES) + ' or `"package.module:factory"`',
        "the network; a factory of yours is `(width, input_shape, num_classes) -> nn.Module`",
        "resnet: He, Zhang, Ren, Sun 2016",
    )
    depth: Annotated[int, Field(gt=0, le=1000)] = key(
        "whole number from 1 to 1000",
        "hidden layers of an MLP, convolutions of a convnet",
        default=ModelOptions.depth,
    )
    activation: str = key(
        choices(ACTIVATIONS),
        "after every hidden layer; built-in families only",
        default=ModelOptions.activation,
    )
    normalization: Annotated[str, one_of(NORMALIZATIONS)] = key(
        choices(NORMALIZATIONS),
        "before every activation; built-in families only; a resnet without it uses SkipInit",
        "De, Smith 2020 for SkipInit",
        default=ModelOptions.normalization,
    )
    groups: Count | None = key(
        "whole number above 0",
        "groups of `group` normalization, which divide the channels; not given: 2",
        default=ModelOptions.groups,
    )
    ghost_size: Annotated[int, Field(ge=2, le=LARGEST_INTEGER)] | None = key(
        "whole number of at least 2",
        "examples that `ghost_batch` normalizes together; smaller batches are normalized whole; not given: 64",
        "Smith, Elsen, De 2020",
        default=ModelOptions.ghost_size,
    )
    blocks: Blocks | None = key(
        "list of whole numbers above 0",
        "residual blocks of each stage of a resnet; not given: [1, 1]",
        default=ModelOptions.blocks,
    )
    stem: Annotated[int, Field(gt=0, le=MOST_STEM)] | None = key(
        "whole number above 0",
        "channels of a resnet's first convolution; not given: the width",
        "Zagoruyko, Komodakis 2016",
        default=ModelOptions.stem,
    )
    scale_invariant: bool = key(
        "true or false",
        "a normalization after every weight layer, no affine parameters, a fixed random read-out",
        "Li, Lyu, Arora 2020",
        default=ModelOptions.scale_invariant,
    )
    query_rows: Patterns | None = key(
        'list of patterns such as `"blocks.*.qkv.weight[:1/3]"`',
        "for mup: the rows that make an attention's queries, which absorb 1/√d_head → 1/d_head",
        "Yang, Hu 2021",
        default=None,
    )

    def options(self) -> ModelOptions:
        """Return the options with the defaults of the family filled in; refuse what the family does not take."""
        return complete(ModelOptions(**{f.name: getattr(self, f.name) for f in fields(ModelOptions)}))


class TrainingSection(Section):
    """How each run is trained and evaluated."""

    steps: Count | None = key(
        "whole number above 0",
        "budget of every run, in steps",
        default=None,
    )
    epochs: Annotated[float, Field(gt=0)] | None = key(
        "number above 0",
        "budget of every run, in epochs of ⌊N/B⌋ steps, rounded, at least one step",
        default=None,
    )
    schedule: OneSchedule = key(
        "table, see [Schedules](#schedules)",
        "how the rate, the batch size or the decay changes along a run; not constant only where `grid.schedule` is "
        "not given",
        default=Schedule(),
    )
    nesterov: bool = key(
        "true or false",
        "momentum looks ahead: the step is that of g + mv; needs a momentum above 0",
        "Sutskever, Martens, Dahl, Hinton 2013",
        default=False,
    )
    decay: Annotated[str, one_of(DECAYS)] | None = key(
        choices(DECAYS),
        "how weight decay λ acts. coupled: λ/c times the tensor joins the gradient, c its multiplier (SGD only, its "
        "default). decoupled: the tensor shrinks by 1 − λ times its own rate, as in `torch.optim.AdamW` (AdamW's "
        "default). independent: it shrinks by 1 − ελ for every multiplier. All follow the schedule",
        "Loshchilov, Hutter 2019",
        default=None,
    )
    no_decay: Annotated[tuple[str, ...], some_of(NO_DECAY)] = key(
        "list of " + choices(NO_DECAY),
        "tensors without weight decay: gains of normalization layers; biases and shifts",
        default=(),
    )
    clip_norm: Annotated[float, Field(gt=0)] | None = key(
        "number above 0",
        "bound of the gradient's norm √(Σ c‖∂L/∂θ‖²), in the parameterization's coordinates; not given: no bound",
        "Pascanu, Mikolov, Bengio 2013",
        default=None,
    )
    augmentation: Annotated[tuple[str, ...], some_of(AUGMENTATIONS)] = key(
        "list of " + choices(AUGMENTATIONS),
        "of training images, drawn anew at every step from the run's seed: left and right change places, the image "
        "is shifted by up to an eighth of its side and filled with the mean",
        "He, Zhang, Ren, Sun 2016, section 4.2",
        default=(),
    )
    average: bool = key(
        "true or false",
        "also evaluate the mean of the iterates of the late window (columns `averaged_…`), with batch statistics "
        "measured on the training set",
        "Polyak, Juditsky 1992",
        default=False,
    )
    evaluations: Annotated[int, Field(ge=2, le=10_000)] = key(
        "whole number from 2 to 10000",
        "evaluations of a run after the one at step 0, evenly spaced, the last at the end",
        "five in a late window of a quarter, five in the one before",
        default=20,
    )
    late_fraction: Annotated[float, Field(gt=0, le=0.5)] = key(
        "number above 0, at most 0.5",
        "share of the budget whose evaluations are averaged; the drift is that mean minus the one of the window before",
        "the mean at late times: Park et al. 2019; the window is ours",
        default=0.25,
    )
    max_extensions: Annotated[int, Field(ge=0, le=10)] = key(
        "whole number from 0 to 10",
        "how often the budget of a width is doubled while the best cell or a neighbour is not late",
        default=0,
    )
    loss: Annotated[str, one_of(LOSSES)] = key(
        choices(LOSSES),
        "cross-entropy in nats, or half the squared distance summed over outputs; real-valued targets need a loss for "
        'them, such as `"mse"`',
        "mse: Lewkowycz, Bahri, Dyer, Sohl-Dickstein, Gur-Ari 2020, section 2",
        default="cross_entropy",
    )
    sampling: Annotated[str, one_of(SAMPLINGS)] = key(
        choices(SAMPLINGS),
        "a new order each epoch, its last partial batch dropped; a fresh subset each step; independent examples",
        default="epoch_shuffle",
    )
    precision: Annotated[str, one_of(PRECISIONS)] = key(
        choices(PRECISIONS),
        "of parameters and data while training; tf32 (a GPU only) rounds the factors of matrix products, bfloat16 "
        "computes products and convolutions in it and keeps parameters in float32",
        default="float32",
    )
    batch_statistics: Literal["running", "exact"] = key(
        '`"running"`, `"exact"`',
        "with which batch normalization is evaluated; exact: measured on the whole training set before every "
        "evaluation, layer after layer",
        default="running",
    )


NOT_MEASURED: dict[str, Any] = {"measure": "", "measure_at": "", "measure_examples": None}


class MeasureSection(Section):
    """The instruments that measure every run of the grid along its training."""

    quantities: Annotated[tuple[str, ...], some_of(INSTRUMENTS)] = key(
        "list of " + choices(INSTRUMENTS),
        "what is measured",
        default=(),
    )
    at: Shares = key(
        "list of numbers from 0 to 1",
        "shares of the budget; each is measured at the evaluation nearest to it",
        default=(0.0, 0.25, 0.5, 0.75, 1.0),
    )
    examples: Annotated[int, Field(ge=16, le=LARGEST_INTEGER)] = key(
        "whole number from 16",
        "training examples, drawn by `dataset.data_seed`, on which gradients and curvature are measured; at most all",
        default=512,
    )

    def run_fields(self) -> dict[str, Any]:
        """Return the fields of `Run` for these instruments, or those of a run that is not measured."""
        if not self.quantities:
            return NOT_MEASURED
        at = " ".join(map(repr, self.at))
        return {"measure": " ".join(self.quantities), "measure_at": at, "measure_examples": self.examples}


class FitSection(Section):
    """How the optimum is chosen, and whether ladders are extended towards it."""

    select_on: Literal["test", "validation"] = key(
        '`"test"`, `"validation"`',
        "data on which the optimum is chosen; heights are reported on the test set; validation needs "
        "`dataset.validation_fraction` above 0",
        default="test",
    )
    metric: Annotated[str, one_of(METRICS)] = key(
        choices(METRICS),
        "metric whose optimum ladders grow towards and that is recommended; real-valued targets need a metric for "
        'them, such as `"loss"`',
        default="accuracy",
    )
    extend_edges: bool = key(
        "`true`, `false`",
        "whether a ladder of three values or more gets rungs at an end that has fewer than two cells beyond the best"
        " one; along the longer of rate axis and batch size",
        default=True,
    )
    max_edge_rungs: Annotated[int, Field(ge=0, le=100)] = key(
        "whole number from 0 to 100",
        "most rungs added at each end; an optimum still there stays censored",
        "two octaves of a √2 ladder",
        default=4,
    )


class StabilitySection(Section):
    """The short ladder that finds the largest stable rate."""

    steps: Count = key(
        "whole number above 0",
        "budget of each of these runs, in steps: the largest stable rate is one within so many",
        default=300,
    )
    seeds: Annotated[int, Field(ge=0, le=MOST_SEEDS)] = key(
        "whole number from 0 to 10000",
        "seeds of each rung, from the lowest of `seeds` + 1000000 on; 0 leaves the ladder out; below 6 there is no "
        "interval",
        default=10,
    )
    batch_size: WholeNumbers | None = key(
        "list or ladder of whole numbers from 1 to N",
        "batches at which the edge is measured; not given: at most five of the grid's, spread evenly in their "
        "logarithm",
        default=None,
    )
