"""Settings of training, as plain values, and the settings that people use before they tune anything."""

from __future__ import annotations

from dataclasses import dataclass, field

from noisescale.parameterizations import DEFAULT_INIT_SCALE


@dataclass(frozen=True)
class TrainingSetting:
    """An optimizer with its rate, a batch size and a budget, in one parameterization.

    Args:
        name: Name for people.
        learning_rate: Learning rate ε.
        batch_size: Batch size B, in examples.
        steps: Training budget, in steps.
        optimizer: A name in `OPTIMIZERS`.
        hyperparameters: Hyperparameters of the optimizer, by key.
        parameterization: A name in `PARAMETERIZATIONS`.
        init_scale: Initial variance σ0².
        weight_decay: Weight decay λ.
        decay: Form of weight decay.
        no_decay: Kinds of parameters without decay.
        nesterov: Whether momentum has Nesterov's form.
        keeps_batch: Whether the batch size stays constant where the study's schedule changes it.
    """

    name: str
    learning_rate: float
    batch_size: int
    steps: int
    optimizer: str = "sgd"
    hyperparameters: dict[str, float] = field(default_factory=dict)
    parameterization: str = "own"
    init_scale: float = DEFAULT_INIT_SCALE
    weight_decay: float = 0.0
    decay: str = "coupled"
    no_decay: tuple[str, ...] = ()
    nesterov: bool = False
    keeps_batch: bool = False


# A batch size that many training scripts start from.
DEFAULT_BATCH = 32


def default_settings(batch_size: int, examples: int) -> tuple[TrainingSetting, ...]:
    """Return settings that need no tuning: plain `torch.optim` optimizers on a module's own initialization.

    Args:
        batch_size: Batch size B, in examples.
        examples: Examples that each run sees.

    Returns:
        SGD with the rates 0.1 and 0.01, and AdamW with the rate 1e-3 and torch's default weight decay of 0.01.
    """
    steps = max(1, round(examples / batch_size))
    sgd = [
        TrainingSetting(
            f"torch.optim.SGD(lr={rate:g})", rate, batch_size, steps, "sgd", {"momentum": 0.0}, keeps_batch=True
        )
        for rate in (0.1, 0.01)
    ]
    betas = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    adamw = TrainingSetting(
        "torch.optim.AdamW(lr=1e-3)", 1e-3, batch_size, steps, "adamw", betas, weight_decay=0.01, decay="decoupled",
        keeps_batch=True,
    )  # fmt: skip
    return (*sgd, adamw)
