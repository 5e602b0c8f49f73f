"""The conditions under which a recommendation holds: the data, training and budget of its study."""

from __future__ import annotations

from noisescale.input_shapes import InputShape, NamedShapes, vocabulary_of
from noisescale.laws.results import Group, Series
from noisescale.parameterizations import multipliers_of_text
from noisescale.training import OPTIMIZERS


def inputs_in_words(input_shape: InputShape, standardize: object) -> str:
    """Describe how inputs were prepared.

    Args:
        input_shape: Shape of one input.
        standardize: The key `dataset.standardize` of the study's spec.
    """
    if isinstance(input_shape, NamedShapes):
        numbers = "numbers as the data set gives them" if standardize is False else "numbers standardized on it"
        return f"inputs by name ({', '.join(input_shape)}), {numbers}"
    if (vocabulary := vocabulary_of(input_shape)) is not None:
        return f"sequences of {input_shape[0]} tokens of {vocabulary} kinds"
    if standardize is False:
        return "inputs as the data set gives them"
    parts = "column" if standardize == "columns" else "channel"
    return f"inputs standardized to mean 0 and deviation 1 on it (each {parts})"


def conditions(
    series: Series, group: Group, time: float, train_size: int, momentum: float, inputs: str
) -> tuple[str, ...]:
    """Describe the study's data, training and budget, one line each.

    Args:
        series: Series whose law the recommendation follows.
        group: Group that contains the series.
        time: Training time ε·steps.
        train_size: Training set size N, in examples.
        momentum: Momentum m of the group.
        inputs: How inputs were prepared, in words.

    Returns:
        The lines.
    """
    horizon = [f"stability measured over {max(edge.steps for edge in group.edges)} steps"] if group.edges else []
    schedule = group.hyperparameters.get("schedule", "constant")
    rate = "constant learning rate" if schedule == "constant" else f"schedule {schedule}; rates are its peak"
    steps = max((row.steps for row in series.widths), default=0)
    optimizer = OPTIMIZERS[group.hyperparameters.get("optimizer") or "sgd"]
    momentum_text = f"momentum {momentum:g}, " if "momentum" in optimizer.hyperparameters else ""
    lines = [
        f"training set of {train_size} examples, {inputs}",
        f"{momentum_text}{rate}",
        *_training_options(group, momentum),
        _budget(series, steps, time),
        *horizon,
    ]
    if series.axis == "batch_size" and series.budget == "steps":
        rate = f"{series.fixed_value:g}"
        lines.append(
            f"measured at ε = {rate} and a fixed number of steps: at another rate keep ε·steps; the recommended steps "
            "already do this"
        )
    elif series.budget == "epochs":
        lines.append(
            "measured at a fixed number of epochs, where noise and training time change together: keep the epochs"
        )
    elif series.quantity == "learning_rate":
        lines.append(f"holds only at B = {series.fixed_value:g} and this number of steps: no law relates the rate to B")
    else:
        lines.append(
            f"measured at B = {series.fixed_value:g} and a fixed number of steps: at another batch size keep ε·steps"
        )
    return tuple(lines)


def _budget(series: Series, steps: int, time: float) -> str:
    """Say how long the cells were trained, and why a recommendation may have another number of steps."""
    trained = f"trained for up to {steps:,} steps"
    if series.quantity == "learning_rate":
        return trained
    if series.budget == "epochs":
        return f"{trained}: at another batch size the same epochs take another number of steps"
    return f"{trained}, at ε·steps = {time:.4g}: at another rate the same ε·steps takes another number of steps"


def _training_options(group: Group, momentum: float) -> list[str]:
    """Describe how training differed from plain SGD, and which parts `torch.optim.SGD` does not do by itself."""
    options, lines = group.hyperparameters, []
    if options.get("nesterov") and momentum:
        lines.append("Nesterov's form of momentum")
    shrinks = {"decoupled": "1 − ε·c·λ, where c is the rate multiplier of the tensor", "independent": "1 − ελ"}
    # Without momentum and multipliers, the independent decay of SGD equals the coupled decay.
    differs = "coupled" not in OPTIMIZERS[options.get("optimizer", "sgd")].decays or momentum
    differs = differs or options.get("decay") == "decoupled"
    if (factor := shrinks.get(options.get("decay", ""))) and differs and group.number("weight_decay"):
        lines.append(f"{options['decay']} weight decay: every step also multiplies the weights by {factor}")
    for pattern, number in multipliers_of_text(options.get("rate_multipliers") or "").items():
        lines.append(f"the rate of {pattern} times {number:g}")
    if digest := options.get("checkpoint"):
        lines.append(f"fine-tuned from the weights of a file with the digest {digest}")
    if names := options.get("no_decay"):
        lines.append(f"no weight decay on {names.replace(' ', ' and ')}")
    if (bound := options.get("clip_norm")) is not None:
        lines.append(f"gradients clipped at √(Σ c‖g‖²) = {bound:g}, where c is the rate multiplier of SGD for a tensor")
    if names := options.get("augmentation"):
        lines.append(f"random augmentation of the training images: {names.replace(' ', ', ')}")
    return lines
