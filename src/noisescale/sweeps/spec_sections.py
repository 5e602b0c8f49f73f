"""The sections of a spec, except `[grid]`. Each key states its row of the reference page, docs/spec.md."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Field

from noisescale.datasets import KNOWN_DATASETS, DatasetOptions
from noisescale.families import ACTIVATIONS, FAMILIES, NORMALIZATIONS, ModelOptions, complete
from noisescale.sweeps.axes import LARGEST_INTEGER, WholeNumbers
from noisescale.sweeps.spec_values import (
    MOST_SEEDS,
    MOST_STEM,
    SEEDS_BELOW,
    Average,
    Blocks,
    Count,
    NamePatterns,
    OneSchedule,
    Patterns,
    RateMultipliers,
    Section,
    Standardization,
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
        "the data set. Your function takes no argument and returns `(x_train, y_train, x_test, y_test)`, with inputs "
        "of shape [N, D], [N, C, L] or [N, C, H, W] and with integer labels or real-valued targets",
        "MNIST-1D: Greydanus, Kobak, arXiv:2011.14439",
    )
    train_size: Count | None = key(
        "whole number above 0",
        "number of training examples, before the validation split; all if not given. `mnist1d` has 4,000 published "
        "examples and generates more, up to 1,000,000",
        default=None,
    )
    test_size: Count | None = key(
        "whole number above 0",
        "number of test examples; all if not given. `mnist1d` has 1,000 published examples and generates more, up to "
        "1,000,000",
        default=None,
    )
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = key(
        "number from 0 to below 1",
        "fraction of the training examples that becomes the validation set and is not trained on",
        default=0.0,
    )
    label_noise: Annotated[float, Field(ge=0, lt=1)] = key(
        "number from 0 to below 1",
        "fraction of the training labels that is redrawn uniformly over the classes. It needs class labels, and is 0 "
        "if `grid.label_noise` is given",
        default=0.0,
    )
    data_seed: Annotated[int, Field(ge=0, lt=SEEDS_BELOW)] = key(
        "whole number from 0 to below 2^32",
        "seed of the choice of examples, the validation split and the label noise",
        default=0,
    )
    standardize: Standardization = key(
        '`true`, `false`, `"columns"`',
        "how inputs are shifted and scaled to mean 0 and deviation 1 over the training set: each channel, nothing, or "
        "each column of vectors [N, D]",
        default=True,
    )

    def options(self, label_noise: float) -> DatasetOptions:
        """Return the options of the data set at one fraction of redrawn labels."""
        return DatasetOptions(**{**self.model_dump(), "label_noise": label_noise})


class ModelSection(Section):
    """The family of networks and its options. Widths belong to the grid."""

    family: str = key(
        choices(FAMILIES) + ' or `"package.module:factory"`',
        "the network. Your factory is a function `(width, input_shape, num_classes) -> nn.Module`. Without "
        "`grid.width` it is a function `(input_shape, num_classes)` or `()`, or a module",
        "resnet: He, Zhang, Ren, Sun 2016",
    )
    depth: Annotated[int, Field(gt=0, le=1000)] = key(
        "whole number from 1 to 1000",
        "number of hidden layers of an MLP, or of convolutions of a convnet",
        default=ModelOptions.depth,
    )
    activation: str = key(
        choices(ACTIVATIONS),
        "activation after every hidden layer; built-in families only",
        default=ModelOptions.activation,
    )
    normalization: Annotated[str, one_of(NORMALIZATIONS)] = key(
        choices(NORMALIZATIONS),
        "normalization before every activation; built-in families only. A resnet without normalization uses SkipInit",
        "De, Smith 2020 for SkipInit",
        default=ModelOptions.normalization,
    )
    groups: Count | None = key(
        "whole number above 0",
        "number of groups of `group` normalization, a divisor of the channels; 2 if not given",
        default=ModelOptions.groups,
    )
    ghost_size: Annotated[int, Field(ge=2, le=LARGEST_INTEGER)] | None = key(
        "whole number of at least 2",
        "number of examples that `ghost_batch` normalizes together; 64 if not given. Smaller batches are normalized "
        "as a whole",
        "Smith, Elsen, De 2020",
        default=ModelOptions.ghost_size,
    )
    blocks: Blocks | None = key(
        "list of whole numbers above 0",
        "number of residual blocks in each stage of a resnet; [1, 1] if not given",
        default=ModelOptions.blocks,
    )
    stem: Annotated[int, Field(gt=0, le=MOST_STEM)] | None = key(
        "whole number above 0",
        "number of channels of a resnet's first convolution; the width if not given",
        "Zagoruyko, Komodakis 2016",
        default=ModelOptions.stem,
    )
    scale_invariant: bool = key(
        "true or false",
        "true puts a normalization without affine parameters after every weight layer and fixes a random read-out",
        "Li, Lyu, Arora 2020",
        default=ModelOptions.scale_invariant,
    )
    query_rows: Patterns | None = key(
        'list of patterns such as `"blocks.*.qkv.weight[:1/3]"`',
        "for mup: the rows of weights that compute the queries of attention. Their multiplier turns the factor "
        "1/√d_head into 1/d_head",
        "Yang, Hu 2021",
        default=None,
    )

    rate_multipliers: RateMultipliers | None = key(
        'table such as `{ "backbone.*" = 0.1 }`',
        "factors of the learning rate by pattern of parameter names (`*` and `?` match any characters), on top of the "
        "parameterization's rate multipliers. They are the same for every optimizer",
        default=None,
    )

    checkpoint: str | None = key(
        "path of a file that `torch.save` or a training tool wrote",
        "weights from which every run starts, by name (fine-tuning). The names and shapes must be those of the model. "
        'It needs the parameterization `"own"` and one model: one width, or none',
        default=None,
    )
    reinitialize: NamePatterns | None = key(
        'list of patterns such as `"head.*"`',
        "weights that do not start from `model.checkpoint`, but are drawn by the model from the seed of each run",
        default=None,
    )

    def options(self, *, fixed: bool = False) -> ModelOptions:
        """Return the options with the defaults of the family filled in; refuse what the family does not take.

        Args:
            fixed: Whether the spec has one fixed model without a width.
        """
        names = [f.name for f in fields(ModelOptions) if f.name != "fixed"]
        return complete(ModelOptions(**{name: getattr(self, name) for name in names}, fixed=fixed))


class TrainingSection(Section):
    """How each run is trained and evaluated."""

    steps: Count | None = key(
        "whole number above 0",
        "training budget of every run, in steps",
        default=None,
    )
    epochs: Annotated[float, Field(gt=0)] | None = key(
        "number above 0",
        "training budget of every run, in epochs of ⌊N/B⌋ steps. The number of steps is rounded and at least 1",
        default=None,
    )
    schedule: OneSchedule = key(
        "table, see [Schedules](#schedules)",
        "how the learning rate, the batch size or the weight decay changes during a run. It must be constant if "
        "`grid.schedule` is given",
        default=Schedule(),
    )
    nesterov: bool = key(
        "true or false",
        "true uses Nesterov momentum, which needs a momentum above 0",
        "Sutskever, Martens, Dahl, Hinton 2013",
        default=False,
    )
    decay: Annotated[str, one_of(DECAYS)] | None = key(
        choices(DECAYS),
        "how weight decay λ acts. coupled (SGD only, and its default) adds λ/c times the tensor to its gradient, where "
        "c is the tensor's rate multiplier. decoupled (AdamW's default, as in `torch.optim.AdamW`) multiplies the "
        "tensor by 1 − λ times the tensor's rate. independent multiplies it by 1 − ελ, whatever its rate multiplier. "
        "All of these follow the schedule",
        "Loshchilov, Hutter 2019",
        default=None,
    )
    no_decay: Annotated[tuple[str, ...], some_of(NO_DECAY)] = key(
        "list of " + choices(NO_DECAY),
        "tensors without weight decay: the gains of normalization layers, or all biases and shifts",
        default=(),
    )
    clip_norm: Annotated[float, Field(gt=0)] | None = key(
        "number above 0",
        "largest norm √(Σ c‖∂L/∂θ‖²) of the gradient, in the parameterization's coordinates; no limit if not given",
        "Pascanu, Mikolov, Bengio 2013",
        default=None,
    )
    microbatch: Count | None = key(
        "whole number above 0",
        "number of examples whose gradients are computed at once. The gradients of larger batches are accumulated over "
        "parts of this size, which needs less memory and gives the same steps; the whole batch if not given. Batch "
        "normalization cannot be split, except `ghost_batch` into multiples of `model.ghost_size`",
        default=None,
    )
    augmentation: Annotated[tuple[str, ...], some_of(AUGMENTATIONS)] = key(
        "list of " + choices(AUGMENTATIONS),
        "changes of training images that are drawn again at every step from the run's seed: left and right are "
        "exchanged, or the image is shifted by up to an eighth of its side and filled with the mean",
        "He, Zhang, Ren, Sun 2016, section 4.2",
        default=(),
    )
    average: Average = key(
        '`true`, `false`, `"mean"`, `{ ema = 0.999 }`',
        "an average of the iterates that is evaluated beside the weights at the end (columns `averaged_…`), with batch "
        "statistics measured on the training set. true and mean take the mean of the late iterates. ema takes the "
        "exponential moving average θ̄ ← d·θ̄ + (1 − d)·θ over all steps, from the first iterate, as "
        "`torch.optim.swa_utils` does",
        "Polyak, Juditsky 1992",
        default=False,
    )

    def average_fields(self) -> dict[str, Any]:
        """Return the fields of `Run` for the average of the iterates."""
        decay = self.average["ema"] if isinstance(self.average, dict) else None
        return {"average": self.average is not False, "average_decay": decay}

    evaluations: Annotated[int, Field(ge=2, le=10_000)] = key(
        "whole number from 2 to 10000",
        "number of evaluations after the one at step 0, evenly spaced. The last one is at the end of training",
        "with `late_fraction` at its default, five evaluations in the late window and five in the window before",
        default=20,
    )
    late_fraction: Annotated[float, Field(gt=0, le=0.5)] = key(
        "number above 0, at most 0.5",
        "fraction of the budget, at its end, over which evaluations are averaged (the late window). The drift is this "
        "mean minus the mean of the window before. A run whose rate falls in this window counts with its last "
        "evaluation",
        "Park et al. 2019 for the mean at late times; the size of the window is ours",
        default=0.25,
    )
    max_extensions: Annotated[int, Field(ge=0, le=10)] = key(
        "whole number from 0 to 10",
        "largest number of times that the budget of a width is doubled, as long as the best cell (learning rate and "
        "batch size) or one of its neighbours has not converged",
        default=0,
    )
    loss: Annotated[str, one_of(LOSSES)] = key(
        choices(LOSSES),
        "cross-entropy in nats, or half the squared error summed over outputs. Real-valued targets need another loss, "
        'such as `"mse"`',
        "mse: Lewkowycz, Bahri, Dyer, Sohl-Dickstein, Gur-Ari 2020, section 2",
        default="cross_entropy",
    )
    sampling: Annotated[str, one_of(SAMPLINGS)] = key(
        choices(SAMPLINGS),
        "how batches are drawn: from a new order in each epoch, without the last partial batch; as a new subset at "
        "each step; or as independent examples",
        default="epoch_shuffle",
    )
    precision: Annotated[str, one_of(PRECISIONS)] = key(
        choices(PRECISIONS),
        "precision of parameters and data during training. tf32 (only on a GPU) rounds the factors of matrix products. "
        "bfloat16 computes products and convolutions in bfloat16 and keeps parameters in float32",
        default="float32",
    )
    batch_statistics: Literal["running", "exact"] = key(
        '`"running"`, `"exact"`',
        "the statistics with which batch normalization is evaluated. exact measures them on the whole training set, "
        "layer after layer, before every evaluation",
        default="running",
    )


class FitSection(Section):
    """How the optimum is chosen, and whether ladders are extended towards it."""

    select_on: Literal["test", "validation"] = key(
        '`"test"`, `"validation"`',
        "the data on which the optimum is chosen. The metric at the optimum is reported on the test set. validation "
        "needs `dataset.validation_fraction` above 0",
        default="test",
    )
    metric: Annotated[str, one_of(METRICS)] = key(
        choices(METRICS),
        "the metric whose optimum is located and recommended. Real-valued targets need another metric, such as "
        '`"loss"`',
        default="accuracy",
    )
    extend_edges: bool = key(
        "`true`, `false`",
        "whether to add values to the ladder at an end that is less than two values from the best value. The ladder is "
        "the list on the rate axis or the list of batch sizes, whichever is longer; it needs at least three values",
        default=True,
    )
    max_edge_rungs: Annotated[int, Field(ge=0, le=100)] = key(
        "whole number from 0 to 100",
        "largest number of values added at each end of a ladder. An optimum beyond these values is reported as "
        "censored, which means that only a bound is known",
        "two octaves of a √2 ladder",
        default=4,
    )


class StabilitySection(Section):
    """The stability ladder, short runs that locate the largest stable rate, and the price of rates below this rate."""

    steps: Count = key(
        "whole number above 0",
        "training steps of each of these runs. A rate counts as stable if training does not fail within these steps",
        default=300,
    )
    seeds: Annotated[int, Field(ge=0, le=MOST_SEEDS)] = key(
        "whole number from 0 to 10000",
        "number of seeds at each rate. The first seed is the smallest of `seeds` + 1000000. With 0 there is no "
        "stability ladder. With fewer than 6 seeds the stability edge has no interval",
        default=10,
    )
    batch_size: WholeNumbers | None = key(
        "list or ladder of whole numbers from 1 to N",
        "batch sizes at which the stability edge is measured. If not given, at most five of the grid's batch sizes, "
        "evenly spaced in their logarithm",
        default=None,
    )
    schedule: Literal["run", "constant"] = key(
        '`"run"`, `"constant"`',
        "the schedule of the rate in these runs: the schedule of the sweep's runs, over `steps`, or a constant rate. "
        "Runs whose schedule changes the batch size have ladders of constant rates. A folder that an older version "
        "wrote continues with constant rates",
        default="run",
    )
    price: bool = key(
        "true or false",
        "whether to measure what a larger learning rate costs at equal noise and equal ε·steps (equal epochs, if the "
        "budget is in epochs): up to three cells at 0.2, 0.35 and 0.5 of the stability edge, at the largest width, "
        "with at most five seeds from the smallest of `seeds` + 2000000. It needs an optimizer with a noise scale, two "
        "seeds, and `stability.seeds` of at least 6. "
        "A folder that an older version wrote continues without these cells, unless the spec states true",
        "on MNIST-1D a rate of 0.3 of the edge cost nothing, 0.4 cost 0.8 points of accuracy, and 0.5 cost 2",
        default=True,
    )
