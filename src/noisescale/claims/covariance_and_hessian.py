"""The experiment on the covariance of per-example gradients beside the Hessian, both exact, of a small network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import above, over_seeds
from noisescale.claims.trained_here import small_spec, trainers
from noisescale.families import ModelOptions, family_factory

Floats = NDArray[np.float64]

_SEEDS = {"smoke": 3, "laptop": 6}
_WIDTH = {"smoke": 6, "laptop": 16}
_EXAMPLES = {"smoke": 150, "laptop": 600}
_BATCH, _RATE = 16, 0.1
# Of the Hessian, that are computed at once.
_ROWS = 128
# At moderate training loss, and near interpolation, where C vanishes faster than H.
_LOOKS = ("moderate loss", "small loss", "near interpolation")
_STEPS = {"smoke": (100, 500, 2000), "laptop": (300, 3000, 10_000)}


@dataclass(frozen=True)
class Matrices:
    """C and H of one network.

    Arguments:
        covariance, curvature: [P, P].
    """

    covariance: Tensor
    curvature: Tensor

    @property
    def cosine(self) -> float:
        """⟨C, H⟩/(‖C‖‖H‖) in Frobenius' product, 1 where they are proportional."""
        product = (self.covariance * self.curvature).sum()
        return float(product / (self.covariance.norm() * self.curvature.norm()))

    @property
    def trace_ratio(self) -> float:
        """tr C/tr H."""
        return float(self.covariance.trace() / self.curvature.trace())

    def exponent(self, k: int = 20) -> float:
        """The slope of log vᵢᵀCvᵢ on log λᵢ over the k largest eigenvalues of H; 1 where they are proportional."""
        values, vectors = np.linalg.eigh(self.curvature.numpy())
        along = (vectors * (self.covariance.numpy() @ vectors)).sum(0)
        return float(np.polyfit(np.log(values[-k:]), np.log(along[-k:]), 1)[0])


def alignment(request: Request) -> Evidence:
    """C4.6: the covariance of gradients points where the Hessian does, at moderate loss and near interpolation."""
    steps = _STEPS[request.scale]
    found, losses = _along_training(request, steps)
    if request.null:  # taken out: the covariance of another seed's network
        found = [[Matrices(a.covariance, b.curvature) for a, b in zip(row, row[1:] + row[:1], strict=True)]
                 for row in found]  # fmt: skip
    cosines = np.array([[own.cosine for own in row] for row in found])
    ratios = np.array([[own.trace_ratio for own in row] for row in found])
    exponents = np.array([[own.exponent() for own in row] for row in found])
    spread = cosines.std(1, ddof=1)
    x = losses.mean(1)
    return Evidence(
        tuple(
            over_seeds(f"cosine of C and H, {name}", own, "1", "Frobenius' product, exact matrices", above(0.5))
            for name, own in zip(_LOOKS, cosines, strict=True)
        ),
        (
            Panel("training loss, nats", "cosine of C and H", (
                Curve("± standard deviation of seeds", x, cosines.mean(1), cosines.mean(1) - spread,
                      cosines.mean(1) + spread),
            ), log_x=True),
            Panel("training loss, nats", "tr C/tr H",
                  (Curve("mean of seeds", x, ratios.mean(1)),
                   Curve("C = H", x[[0, -1]], np.ones(2), kind="theory")), log_x=True, log_y=True),
        ),
        cosines.shape[1],
        f"MLP of width {_WIDTH[request.scale]}, {_EXAMPLES[request.scale]} digits, cross-entropy, η = {_RATE:g}, S = "
        f"{_BATCH}, after {', '.join(map(str, steps))} steps; all entries of C and H",
        {
            f"{what}, {name}": float(value)
            for what, values in (("training loss", x), ("tr C/tr H", ratios.mean(1)),
                                 ("exponent of vᵢᵀCvᵢ in λᵢ", exponents.mean(1)))
            for name, value in zip(_LOOKS, values, strict=True)
        },
    )  # fmt: skip


def _along_training(request: Request, steps: tuple[int, ...]) -> tuple[list[list[Matrices]], Floats]:
    """C and H of every look and seed, and training losses [looks, S]."""
    seeds = range(request.first_seed, request.first_seed + _SEEDS[request.scale])
    spec = small_spec(
        "alignment", seeds,
        dataset={"name": "digits", "train_size": _EXAMPLES[request.scale], "test_size": 100},
        grid={"width": [_WIDTH[request.scale]], "learning_rate": [_RATE], "batch_size": [_BATCH]},
        training={"steps": steps[-1], "evaluations": 2},
    )  # fmt: skip
    (trainer,) = trainers(spec)
    data = trainer.dataset
    module = family_factory(ModelOptions.of_run(trainer.runs[0]))(
        trainer.runs[0].width, data.input_shape, data.num_classes
    ).double()
    inputs, labels = data.x_train.double(), data.y_train
    found, losses = [], []
    for step in steps:
        trainer.advance(step)
        row = [
            _matrices(module, {name: own[run].double() for name, own in trainer.state.parameters.items()}, inputs,
                      labels)
            for run in range(len(seeds))
        ]  # fmt: skip
        found.append([own for own, _ in row])
        losses.append([loss for _, loss in row])
    return found, np.array(losses)


def _matrices(
    module: nn.Module, parameters: dict[str, Tensor], inputs: Tensor, labels: Tensor
) -> tuple[Matrices, float]:
    sizes = [own.numel() for own in parameters.values()]

    def loss(point: Tensor, some: Tensor, targets: Tensor) -> Tensor:
        parts = zip(parameters.items(), torch.split(point, sizes), strict=True)
        own = {name: part.view(like.shape) for (name, like), part in parts}
        return nn.functional.cross_entropy(functional_call(module, own, (some,)), targets)

    point = torch.cat([own.flatten() for own in parameters.values()])
    each = vmap(grad(loss), (None, 0, 0))(point, inputs.unsqueeze(1), labels.unsqueeze(1))
    curvature: Tensor = jacrev(grad(loss), chunk_size=_ROWS)(point, inputs, labels)
    return Matrices(torch.cov(each.T), curvature), float(loss(point, inputs, labels))
