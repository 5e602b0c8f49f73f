"""The experiment on straight lines between a quiet and a noisy minimum: on which side the loss stays low for longer."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import above, over_seeds
from noisescale.claims.trained_here import outputs, small_spec, trainers
from noisescale.training import PackTrainer
from noisescale.training.losses import LOSSES, target_rows

Floats = NDArray[np.float64]

_SEEDS = {"smoke": 5, "laptop": 10}
_WIDTH, _EXAMPLES = 64, 1000
_RATE = {"mse": 0.02, "cross_entropy": 0.1}
# Quiet and noisy, at the same rate and steps and so after the same training time.
_BATCHES = {"smoke": (64, 4), "laptop": (128, 8)}
_STEPS = {"smoke": 2000, "laptop": 10_000}
# Beyond either end, in lengths of the line.
_BEYOND = {"mse": np.linspace(0, 5, 101), "cross_entropy": np.linspace(0, 1, 101)}
_SHOWN = 2.0


def widths(request: Request) -> Evidence:
    """C4.10: along the line from a quiet to a noisy minimum, the loss stays low for longer beyond the noisy one."""
    losses = ["mse"] if request.scale == "smoke" or request.null else ["mse", "cross_entropy"]
    sides = {loss: _both_sides(request, loss) for loss in losses}
    found = {loss: _widths(own, _BEYOND[loss]) for loss, own in sides.items()}
    deciding, *others = (
        over_seeds(f"width beyond the noisy end over that beyond the quiet one, {loss}", np.log(own[1] / own[0]),
                   "nats", "log of the ratio; width: until the loss is twice that of the lower end", above(0))
        for loss, own in found.items()
    )  # fmt: skip
    beyond, batches = _BEYOND["mse"], _BATCHES[request.scale]
    shown = beyond <= _SHOWN
    relative = (sides["mse"] / sides["mse"][:, 0].min(0)).mean(2)[:, shown]
    panel = Panel(
        "distance beyond the minimum, in lengths of the line", "training loss over that of the lower end",
        (
            *(
                Curve(f"{name}, S = {batch}", beyond[shown], own)
                for name, batch, own in zip(("quiet", "noisy"), batches, relative, strict=True)
            ),
            Curve("twice: the width's end", np.array([0.0, _SHOWN]), np.full(2, 2.0), kind="reference"),
        ),
    )  # fmt: skip
    return Evidence(
        (deciding,), (panel,), 2 * len(losses) * _SEEDS[request.scale],
        f"MLP of width {_WIDTH}, standard parameterization, {_EXAMPLES} examples of MNIST-1D, mse; same initial "
        f"weights, η = {_RATE['mse']:g}, S = {batches[0]} and {batches[1]}, {_STEPS[request.scale]} steps",
        {
            f"{what}, {end} end, {loss}": float(values[side].mean())
            for loss in losses
            for what, values in (("width", found[loss]), ("training loss", sides[loss][:, 0]))
            for side, end in enumerate(("quiet", "noisy"))
        },
        tuple(others),
    )  # fmt: skip


def _both_sides(request: Request, loss: str) -> Floats:
    """Training loss [2, A, S] beyond the quiet and beyond the noisy end, away from the other."""
    batches = _BATCHES[request.scale]
    if request.null:  # taken out: two minima of equal noise, from other initial weights
        ends = [_trained(request, loss, batches[1], shift) for shift in (0, 100)]
    else:
        ends = [_trained(request, loss, batch, 0) for batch in batches]
    quiet, noisy = ({name: own.clone() for name, own in end.state.parameters.items()} for end in ends)
    return np.array(
        [
            [_loss(ends[0], {name: torch.lerp(here[name], there[name], -float(a)) for name in here}, loss)
             for a in _BEYOND[loss]]
            for here, there in ((quiet, noisy), (noisy, quiet))
        ]
    )  # fmt: skip


def _trained(request: Request, loss: str, batch: int, shift: int) -> PackTrainer:
    first = request.first_seed + shift
    spec = small_spec(
        "lines", range(first, first + _SEEDS[request.scale]), dataset={"train_size": _EXAMPLES, "test_size": 100},
        grid={"width": [_WIDTH], "learning_rate": [_RATE[loss]], "batch_size": [batch]},
        training={"steps": _STEPS[request.scale], "loss": loss, "evaluations": 2},
    )  # fmt: skip
    (trainer,) = trainers(spec)
    trainer.advance()
    return trainer


def _loss(trainer: PackTrainer, parameters: dict[str, Tensor], loss: str) -> Floats:
    """Training loss [S] of a pack's networks at other weights."""
    data = trainer.dataset
    rows = target_rows(data.y_train, data.num_classes, torch.float32)
    found: Floats = LOSSES[loss].per_example(outputs(trainer, data.x_train, parameters), rows).double().mean(1).numpy()
    return found


def _widths(loss: Floats, beyond: Floats) -> Floats:
    """The distance [2, S] at which the loss [2, A, S] is twice that of the lower end; the last where it never is."""
    bound = 2 * loss[:, 0].min(0)
    found = np.full((2, loss.shape[2]), beyond[-1])
    for side, seed in np.ndindex(found.shape):
        own = loss[side, :, seed] / bound[seed]
        above_it = np.flatnonzero(own > 1)
        if len(above_it) and above_it[0]:
            i = above_it[0]
            found[side, seed] = np.interp(1.0, own[i - 1 : i + 1], beyond[i - 1 : i + 1])
        elif len(above_it):
            found[side, seed] = beyond[1]
    return found
