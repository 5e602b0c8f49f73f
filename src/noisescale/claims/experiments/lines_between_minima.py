"""The loss on the straight line through two minima: a quiet minimum from small noise, a noisy one from large noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from noisescale.claims.criterion import above
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.in_process import outputs, pack_trainers, small_spec
from noisescale.claims.panel import Curve, Floats, Panel
from noisescale.claims.statistic import over_seeds
from noisescale.named_inputs import one_tensor
from noisescale.training import LOSSES, PackTrainer, target_rows

_SEEDS = {"smoke": 5, "laptop": 10}
_WIDTH, _EXAMPLES = 64, 1000
_RATE = {"mse": 0.02, "cross_entropy": 0.1}
# Batch sizes of the quiet and of the noisy run. Both runs have the same rate and number of steps, and therefore the
# same training time.
_BATCHES = {"smoke": (64, 4), "laptop": (128, 8)}
_STEPS = {"smoke": 2000, "laptop": 10_000}
# Distances beyond each minimum, in units of the distance between the minima.
_BEYOND = {"mse": np.linspace(0, 5, 101), "cross_entropy": np.linspace(0, 1, 101)}
# Largest distance in the figure.
_SHOWN = 2.0
_ENDS = ("quiet", "noisy")


def widths(request: Request) -> Evidence:
    """C4.10: on the line through a quiet and a noisy minimum, the loss stays low farther beyond the noisy minimum."""
    losses = ["mse"] if request.scale == "smoke" or request.null else ["mse", "cross_entropy"]
    profiles = {loss: _profiles(request, loss) for loss in losses}
    width = {loss: _widths(profile, _BEYOND[loss]) for loss, profile in profiles.items()}
    deciding, *others = (
        over_seeds(f"ratio of the widths beyond the noisy and the quiet minimum, {loss}", np.log(noisy / quiet), "nats",
                   "log of the ratio; a width ends where the loss is twice the loss of the lower minimum", above(0))
        for loss, (quiet, noisy) in width.items()
    )  # fmt: skip
    batches = _BATCHES[request.scale]
    return Evidence(
        statistics=(deciding,),
        panels=(_panel(profiles["mse"], batches),),
        runs=2 * len(losses) * _SEEDS[request.scale],
        setting=f"MLP of width {_WIDTH}, standard parameterization, {_EXAMPLES} examples of MNIST-1D, mse; same "
        f"initial weights, η = {_RATE['mse']:g}, S = {batches[0]} and {batches[1]}, {_STEPS[request.scale]} steps",
        reported={
            f"{quantity}, {end} end, {loss}": float(values[minimum].mean())
            for loss in losses
            for quantity, values in (("width", width[loss]), ("training loss", profiles[loss][:, 0]))
            for minimum, end in enumerate(_ENDS)
        },
        beside=tuple(others),
    )


def _profiles(request: Request, loss: str) -> Floats:
    """Compute the training loss [2, A, S] beyond each of the two minima, in the direction away from the other."""
    batches = _BATCHES[request.scale]
    if request.null:  # the null experiment compares two minima with equal noise and different initial weights
        ends = [_train(request, loss, batches[1], offset) for offset in (0, 100)]
    else:
        ends = [_train(request, loss, batch, 0) for batch in batches]
    quiet, noisy = ({name: w.clone() for name, w in end.state.parameters.items()} for end in ends)
    profiles = []
    for minimum, other in ((quiet, noisy), (noisy, quiet)):
        points = (
            {name: torch.lerp(minimum[name], other[name], -float(distance)) for name in minimum}
            for distance in _BEYOND[loss]
        )
        profiles.append([_training_loss(ends[0], point, loss) for point in points])
    return np.array(profiles)


def _train(request: Request, loss: str, batch: int, offset: int) -> PackTrainer:
    spec = small_spec(
        "lines", request.seeds(_SEEDS, offset), dataset={"train_size": _EXAMPLES, "test_size": 100},
        grid={"width": [_WIDTH], "learning_rate": [_RATE[loss]], "batch_size": [batch]},
        training={"steps": _STEPS[request.scale], "loss": loss, "evaluations": 2},
    )  # fmt: skip
    (trainer,) = pack_trainers(spec)
    trainer.advance()
    return trainer


def _training_loss(trainer: PackTrainer, parameters: dict[str, Tensor], loss: str) -> Floats:
    """Return the training loss [S] of a pack's networks at the given weights."""
    data = trainer.dataset
    rows = target_rows(data.y_train, data.num_classes, torch.float32)
    per_example = LOSSES[loss].per_example(outputs(trainer, one_tensor(data.x_train, data.name), parameters), rows)
    losses: Floats = per_example.double().mean(1).numpy()
    return losses


def _widths(profiles: Floats, beyond: Floats) -> Floats:
    """Return the distance [2, S] at which the loss [2, A, S] reaches twice the loss of the lower minimum.

    If the loss never reaches this value, return the last distance.
    """
    bound = 2 * profiles[:, 0].min(0)
    distances = np.full((2, profiles.shape[2]), beyond[-1])
    for minimum, seed in np.ndindex(distances.shape):
        relative = profiles[minimum, :, seed] / bound[seed]
        above_bound = np.flatnonzero(relative > 1)
        if len(above_bound) and above_bound[0]:
            crossing = slice(above_bound[0] - 1, above_bound[0] + 1)
            distances[minimum, seed] = np.interp(1.0, relative[crossing], beyond[crossing])
        elif len(above_bound):
            distances[minimum, seed] = beyond[1]
    return distances


def _panel(profiles: Floats, batches: tuple[int, int]) -> Panel:
    shown = _BEYOND["mse"] <= _SHOWN
    relative = (profiles / profiles[:, 0].min(0)).mean(2)[:, shown]
    curves = [
        Curve(f"{end}, S = {batch}", _BEYOND["mse"][shown], values)
        for end, batch, values in zip(_ENDS, batches, relative, strict=True)
    ]
    bound = Curve("end of the width: twice the lower loss", np.array([0.0, _SHOWN]), np.full(2, 2.0),
                  kind="reference")  # fmt: skip
    label = "distance beyond the minimum, in units of the distance between the minima"
    return Panel(label, "training loss / training loss of the lower minimum", (*curves, bound))
