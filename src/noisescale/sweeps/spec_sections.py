"""The sections `[training]`, `[fit]` and `[stability]` of a spec. Each key states its row of docs/spec.md."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from noisescale.sweeps.axes import LARGEST_INTEGER, WholeNumbers
from noisescale.sweeps.spec_values import (
    MOST_SEEDS,
    Average,
    ClassWeights,
    Count,
    OneSchedule,
    Section,
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
    loss: Annotated[str, one_of(LOSSES, or_function=True)] = key(
        choices(LOSSES) + ', or `"package.module:function"`',
        "cross-entropy in nats, half the squared error summed over outputs, or for targets of 0 and 1 the binary "
        "cross-entropy, averaged over outputs. Your function takes the outputs and the targets of a batch and returns "
        "a value for each example or token; their mean is minimized. Real-valued targets need another loss than "
        '`"cross_entropy"`',
        "mse: Lewkowycz, Bahri, Dyer, Sohl-Dickstein, Gur-Ari 2020, section 2",
        default="cross_entropy",
    )
    class_weights: ClassWeights | None = key(
        '`"balanced"`, or list of numbers above 0',
        "weight of each class in the cross-entropy, which is divided by the sum of the weights of the batch, as in "
        "`torch.nn.CrossEntropyLoss`. balanced is n/(K n_c), where n_c of the n training labels are of class c",
        default=None,
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = key(
        "number from 0 to below 1",
        "share of each label that the cross-entropy spreads evenly over the classes",
        "Szegedy et al. 2016, section 7",
        default=0.0,
    )
    ignore_index: Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)] | None = key(
        "whole number",
        "label of the targets that count neither in the cross-entropy nor in metrics, e.g. of padding",
        default=None,
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

    def loss_fields(self) -> dict[str, Any]:
        """Return the fields of `Run` for the loss."""
        weights = "" if self.class_weights is None else self.class_weights
        return {
            "loss": self.loss,
            "class_weights": weights if isinstance(weights, str) else json.dumps(weights),
            "label_smoothing": self.label_smoothing,
            "ignore_index": self.ignore_index,
        }


class FitSection(Section):
    """How the optimum is chosen, and whether ladders are extended towards it."""

    select_on: Literal["test", "validation"] = key(
        '`"test"`, `"validation"`',
        "the data on which the optimum is chosen. The metric at the optimum is reported on the test set. validation "
        "needs `dataset.validation_fraction` above 0",
        default="test",
    )
    metric: Annotated[str, one_of(METRICS, or_function=True)] = key(
        choices(METRICS) + ', or `"package.module:function"`',
        "the metric whose optimum is located and recommended, computed from a whole evaluation set. Your function "
        "takes the outputs and the targets of the set and returns a number. Real-valued targets need another metric "
        'than `"accuracy"`, such as `"loss"` or `"r2"`',
        default="accuracy",
    )
    direction: Literal["max", "min"] | None = key(
        '`"max"`, `"min"`',
        "whether larger or smaller values of a metric of yours are better. It is for such a metric only",
        default=None,
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
