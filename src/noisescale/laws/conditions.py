"""Under which conditions a recommendation holds: those of the study that it comes from."""

from __future__ import annotations

import math

from noisescale.laws.results import Group, Series


def conditions(series: Series, group: Group, time: float, train_size: int, momentum: float) -> tuple[str, ...]:
    """The study's data, training and budget, a line each.

    Args:
        series: Whose law was followed, of a group.
        group: The group that the series belongs to.
        time: ε·steps.
        train_size: N, examples.
        momentum: m of the group.
    """
    horizon = [f"stability seen over {max(edge.steps for edge in group.edges)} steps"] if group.edges else []
    schedule = group.hyperparameters.get("schedule", "constant")
    rate = "constant learning rate" if schedule == "constant" else f"schedule {schedule}; rates are its peak"
    steps = max((row.steps for row in series.widths), default=0)
    lines = [
        f"training set of {train_size} examples, inputs with the training set's mean 0 and deviation 1 (each channel)",
        f"momentum {momentum:g}, {rate}",
        *_training_options(group, momentum),
        f"trained for up to {steps} steps; training time ε·steps = {time:.4g}",
        *horizon,
    ]
    if series.axis == "batch_size" and series.budget == "steps":
        rate = f"{series.fixed_value:g}"
        lines.append(
            f"measured at ε = {rate} and fixed steps: with another rate keep ε·steps, that is, train the steps given"
        )
    elif series.budget == "epochs":
        lines.append("measured at fixed epochs, where noise and training time move together: keep the epochs")
    else:
        lines.append(f"measured at B = {series.fixed_value:g} and fixed steps: at another batch keep ε·steps")
    return tuple(lines)


def _training_options(group: Group, momentum: float) -> list[str]:
    """What was other than plain SGD, and what of it `torch.optim.SGD` does not do by itself."""
    options, found = group.hyperparameters, []
    if options.get("nesterov") and momentum:
        found.append("Nesterov's form of momentum")
    shrinks = {"decoupled": "1 − ε·c·λ, c the rate multiplier of each tensor", "independent": "1 − ελ"}
    # SGD's decays differ only with momentum or with a multiplier; AdamW has no coupled decay.
    differs = options.get("optimizer") == "adamw" or momentum or options.get("decay") == "decoupled"
    if (factor := shrinks.get(options.get("decay", ""))) and differs and number_of(group, "weight_decay"):
        found.append(f"{options['decay']} weight decay: weights shrink by {factor} at every step beside the update")
    if names := options.get("no_decay"):
        found.append(f"no weight decay of {names.replace(' ', ' and ')}")
    if (bound := options.get("clip_norm")) is not None:
        found.append(f"gradients clipped at √(Σ c‖g‖²) = {bound:g}, c the groups' rates over ε")
    if names := options.get("augmentation"):
        found.append(f"training images changed at random: {names.replace(' ', ', ')}")
    return found


def number_of(group: Group, name: str) -> float:
    """A hyperparameter that all runs of a group share; nan where it is none or no number."""
    value = group.hyperparameters.get(name)
    return float(value) if isinstance(value, int | float) else math.nan
