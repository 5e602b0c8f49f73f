"""A program that trains with a recommendation in a loop of the reader's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisescale.laws import Recommendation

# Losses as functions of torch, by the value of `training.loss`.
_LOSSES = {
    "cross_entropy": "torch.nn.functional.cross_entropy(model(x), y)",
    "mse": "0.5 * (model(x) - (y if y.is_floating_point() else torch.eye(data.num_classes)[y])).square().sum(1).mean()",
}
_OTHER_LOSS = 'LOSSES["{name}"].per_example(model(x), target_rows(y, data.num_classes, x.dtype)).mean()'


def training_snippet(folder: Path, spec: Mapping[str, Any], recommendation: Recommendation) -> str:
    """Return a program that builds the recommended model, optimizer and schedule, and trains on the study's data.

    Args:
        folder: The folder of the study.
        spec: The spec of the study.
        recommendation: A recommendation of the study.
    """
    name = str((spec.get("training") or {}).get("loss", "cross_entropy"))
    imports = [] if name in _LOSSES else ["from noisescale.training import LOSSES, target_rows"]
    noise = ((spec.get("grid") or {}).get("label_noise") or [(spec.get("dataset") or {}).get("label_noise", 0.0)])[0]
    width = "" if recommendation.fixed else f", width={recommendation.width:g}"
    schedule, step = ["scheduler = recommendation.schedule(optimizer)"], ["    scheduler.step()"]
    if recommendation.schedule_changes_batch:
        schedule, step = [f"# the study's batch size follows its schedule: {recommendation.schedule_text}"], []
    clipping = [f"    # {line}" for line in recommendation.validity if line.startswith("gradients clipped")]
    return "\n".join(
        [
            "import torch",
            "from noisescale import Study, SweepSpec, recommend",
            "from noisescale.sweeps import Grid",
            *imports,
            "",
            f"study = Study.open({str(folder)!r})",
            f"recommendation = recommend(study{width})",
            "grid = Grid(SweepSpec.from_dict(study.spec))  # the study's factory and data",
            f"data, factory = grid.dataset({noise!r}), grid.factory",
            "model, optimizer = recommendation.optimizer(factory)",
            *schedule,
            "for step in range(recommendation.steps):",
            "    batch = torch.randperm(len(data.x_train))[: recommendation.batch_size]",
            "    x, y = data.x_train[batch], data.y_train[batch]",
            "    optimizer.zero_grad()",
            f"    {_LOSSES.get(name, _OTHER_LOSS.format(name=name))}.backward()",
            *clipping,
            "    optimizer.step()",
            *step,
        ]
    )
