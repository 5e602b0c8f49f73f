"""A program that trains with a recommendation in a plain loop of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisescale.input_shapes import vocabulary_of
from noisescale.laws import Recommendation
from noisescale.training import average_steps

_SQUARES = "(model(x) - (y if y.is_floating_point() else torch.eye(data.num_classes)[y])).square().sum(1).mean().div(2)"
_LABELS = "torch.nn.functional.cross_entropy({outputs}, y{options})"
_OTHER_LOSS = "objective.of_run(model(x), y)"


def training_snippet(folder: Path, spec: Mapping[str, Any], recommendation: Recommendation) -> str:
    """Return a program that builds the recommended model, optimizer and schedule, and trains on the study's data.

    Args:
        folder: The folder of the study.
        spec: The spec of the study.
        recommendation: A recommendation of the study.
    """
    shape, training = recommendation.input_shape, spec.get("training") or {}
    tokens, named = not isinstance(shape, Mapping) and vocabulary_of(shape) is not None, isinstance(shape, Mapping)
    # Only inputs with positions may have a label for each of them.
    positions = tokens or named or len(shape) == 2
    loss = _loss(training, positions=positions)
    objective = loss == _OTHER_LOSS
    x = "wide(data.x_train[batch])" if named else f"data.x_train[batch]{'.long()' * tokens}"
    y = "objective.encoded(data.y_train, data.num_classes, torch.float32)" if objective else "data.y_train"
    # Labels of tokens may be stored in few bits.
    y += "[batch]" + ".flatten().long()" * (positions and loss.startswith("torch.nn.functional.cross_entropy"))
    noise = ((spec.get("grid") or {}).get("label_noise") or [(spec.get("dataset") or {}).get("label_noise", 0.0)])[0]
    width = "" if recommendation.fixed else f", width={recommendation.width:g}"
    norm = training.get("clip_norm")
    # The norm of a sweep is torch's where every rate multiplier is one.
    of_torch = norm is None or recommendation.parameterization in ("standard", "own")
    build = [
        "groups = recommendation.parameter_groups(factory, seed=0)  # the seed of the initial weights",
        "model, optimizer = groups.model, groups.build()",
    ]
    schedule, step = ["scheduler = recommendation.schedule(optimizer)"], ["    scheduler.step()"]
    if recommendation.schedule_changes_batch:
        schedule, step = [f"# the study's batch size follows its schedule: {recommendation.schedule_text}"], []
    clip = "torch.nn.utils.clip_grad_norm_(model.parameters(), {!r})" if of_torch else "groups.clip_gradients({!r})"
    average, averaging, evaluated = _average(training, recommendation.steps)
    return "\n".join(
        [
            "import torch",
            "from noisescale import Study, SweepSpec, recommend",
            "from noisescale.sweeps import Grid",
            *(["from noisescale.named_inputs import wide"] * named),
            *(["from noisescale.training import objective_of"] * objective),
            "",
            f"study = Study.open({str(folder)!r})",
            f"recommendation = recommend(study{width})",
            "grid = Grid(SweepSpec.from_dict(study.spec))  # the study's factory and data",
            f"data, factory = grid.dataset({noise!r}), grid.factory",
            *(build if not of_torch else [_OPTIMIZER]),
            *schedule,
            *(["objective = objective_of(grid.runs()[0], data)  # the study's loss"] * objective),
            *average,
            "N, B = len(data.x_train), recommendation.batch_size",
            "for step in range(recommendation.steps):",
            *(f"    {line}" for line in _BATCHES[training.get("sampling", "epoch_shuffle")]),
            *(f"    # the study's inputs have {line}" for line in recommendation.validity if line.startswith("random")),
            f"    x, y = {x}, {y}",
            "    optimizer.zero_grad()",
            f"    {loss}.backward()",
            *([] if norm is None else ["    " + clip.format(norm)]),
            "    optimizer.step()",
            *step,
            *averaging,
            *_expected(recommendation, evaluated),
        ]
    )


_OPTIMIZER = "model, optimizer = recommendation.optimizer(factory, seed=0)  # the seed of the initial weights"
# The lines that draw the batch of a step, by `training.sampling`.
_BATCHES = {
    "epoch_shuffle": (
        "if step % (N // B) == 0:  # each epoch has a new order and only whole batches",
        "    order = torch.randperm(N)",
        "batch = order[step % (N // B) * B :][:B]",
    ),
    "subset": ("batch = torch.randperm(N)[:B]",),
    "with_replacement": ("batch = torch.randint(N, (B,))",),
}


def _average(training: Mapping[str, Any], steps: int) -> tuple[list[str], list[str], str]:
    """Return the lines that make and update the study's average of the weights, and a remark on what is evaluated."""
    kind = training.get("average", False)
    if not kind:
        return [], [], ""
    options, update = "", ["    average.update_parameters(model)"]
    late: list[str] = []
    if isinstance(kind, Mapping):
        options = f", multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn({kind['ema']!r})"
    else:
        averaged = average_steps(round(steps * (1 - training.get("late_fraction", 0.25))), steps)
        ends = f"recommendation.steps - {averaged[-1] - averaged[0]}, recommendation.steps + 1, {averaged.step}"
        late = [f"late = range({ends})  # the steps that the study averages"]
        update = ["    if step + 1 in late:", f"    {update[0]}"]
    make = [
        f"average = torch.optim.swa_utils.AveragedModel(model{options})",
        "# with batch normalization, call torch.optim.swa_utils.update_bn on the training data at the end",
    ]
    return [*make, *late], update, ", with the weights of `model`, not of `average`"


def _expected(recommendation: Recommendation, evaluated: str) -> list[str]:
    """Return the lines that print what a run is expected to reach; none without a law."""
    if not math.isfinite(recommendation.expected_metric.run_low):
        return []
    name = recommendation.metric.replace("_", " ")
    return [
        f"# 95 % of single runs reach a test {name} between these two values{evaluated}",
        "print(recommendation.expected_metric.run_low, recommendation.expected_metric.run_high)",
    ]


def _loss(training: Mapping[str, Any], *, positions: bool) -> str:
    """Return the loss of a batch as a function of torch, or else as that of the study."""
    name = training.get("loss", "cross_entropy")
    if name == "mse" and not positions:
        return _SQUARES
    if name != "cross_entropy" or training.get("class_weights") is not None:
        return _OTHER_LOSS
    given = {key: training.get(key) for key in ("ignore_index", "label_smoothing")}
    # An ignored index of 0 is one.
    stated = {key: value for key, value in given.items() if value is not None and (value or key == "ignore_index")}
    options = "".join(f", {key}={value!r}" for key, value in stated.items())
    return _LABELS.format(outputs="model(x).flatten(0, -2)" if positions else "model(x)", options=options)
