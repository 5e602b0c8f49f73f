"""The exact covariance of per-example gradients and the exact Hessian of a small network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

from noisescale.claims.criterion import above
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.in_process import pack_trainers, small_spec
from noisescale.claims.panel import Curve, Floats, Panel, mean_with_deviations
from noisescale.claims.statistic import over_seeds
from noisescale.families import ModelOptions, family_factory
from noisescale.named_inputs import one_tensor

_SEEDS = {"smoke": 3, "laptop": 6}
_WIDTH = {"smoke": 6, "laptop": 16}
_EXAMPLES = {"smoke": 150, "laptop": 600}
_BATCH, _RATE = 16, 0.1
# Number of rows of the Hessian that are computed at once.
_ROWS = 128
# Three levels of training loss, because C vanishes faster than H near interpolation.
_LOSS_LEVELS = ("moderate loss", "small loss", "near interpolation")
_STEPS = {"smoke": (100, 500, 2000), "laptop": (300, 3000, 10_000)}
# Number of largest eigenvalues of H to which the exponent is fitted.
_EIGENVALUES = 20


@dataclass(frozen=True)
class Matrices:
    """C and H of one network with P parameters.

    Args:
        covariance: Covariance C of the per-example gradients, shape [P, P].
        hessian: Hessian H of the training loss, shape [P, P].
    """

    covariance: Tensor
    hessian: Tensor

    @property
    def cosine(self) -> float:
        """Cosine ⟨C, H⟩/(‖C‖‖H‖) in the Frobenius product. It is 1 if C and H are proportional."""
        product = (self.covariance * self.hessian).sum()
        return float(product / (self.covariance.norm() * self.hessian.norm()))

    @property
    def trace_ratio(self) -> float:
        """Ratio tr C/tr H of the traces."""
        return float(self.covariance.trace() / self.hessian.trace())

    @property
    def exponent(self) -> float:
        """Slope of log vᵢᵀCvᵢ on log λᵢ over the largest eigenvalues λᵢ of H. It is 1 if C and H are proportional."""
        values, vectors = np.linalg.eigh(self.hessian.numpy())
        variances = (vectors * (self.covariance.numpy() @ vectors)).sum(0)
        return float(np.polyfit(np.log(values[-_EIGENVALUES:]), np.log(variances[-_EIGENVALUES:]), 1)[0])


def alignment(request: Request) -> Evidence:
    """C4.6: the covariance of per-example gradients is aligned with the Hessian, at moderate and small losses."""
    steps = _STEPS[request.scale]
    matrices, losses = _along_training(request, steps)
    if request.null:  # the null experiment takes C from the network of another seed
        matrices = [
            [Matrices(first.covariance, second.hessian) for first, second in zip(row, row[1:] + row[:1], strict=True)]
            for row in matrices
        ]
    cosines, ratios, exponents = (
        np.array([[getattr(pair, name) for pair in row] for row in matrices])
        for name in ("cosine", "trace_ratio", "exponent")
    )
    x = losses.mean(1)
    means = {"training loss": x, "tr C/tr H": ratios.mean(1), "exponent of vᵢᵀCvᵢ in λᵢ": exponents.mean(1)}
    equal = Curve("C = H", x[[0, -1]], np.ones(2), kind="theory")
    label = "training loss, nats"
    return Evidence(
        statistics=tuple(
            over_seeds(f"cosine of C and H, {name}", values, "1", "Frobenius product, exact matrices", above(0.5))
            for name, values in zip(_LOSS_LEVELS, cosines, strict=True)
        ),
        panels=(
            Panel(label, "cosine of C and H", (mean_with_deviations("mean of seeds", x, cosines),), log_x=True),
            Panel(label, "tr C/tr H", (Curve("mean of seeds", x, ratios.mean(1)), equal), log_x=True, log_y=True),
        ),
        runs=cosines.shape[1],
        setting=f"MLP of width {_WIDTH[request.scale]}, {_EXAMPLES[request.scale]} digits, cross-entropy, η = "
        f"{_RATE:g}, S = {_BATCH}, after {', '.join(map(str, steps))} steps; all entries of C and H",
        reported={
            f"{quantity}, {name}": float(value)
            for quantity, values in means.items()
            for name, value in zip(_LOSS_LEVELS, values, strict=True)
        },
    )


def _along_training(request: Request, steps: tuple[int, ...]) -> tuple[list[list[Matrices]], Floats]:
    """Return C and H at each measurement step and seed, and the training losses, shape [steps, S]."""
    seeds = request.seeds(_SEEDS)
    spec = small_spec(
        "alignment", seeds,
        dataset={"name": "digits", "train_size": _EXAMPLES[request.scale], "test_size": 100},
        grid={"width": [_WIDTH[request.scale]], "learning_rate": [_RATE], "batch_size": [_BATCH]},
        training={"steps": steps[-1], "evaluations": 2},
    )  # fmt: skip
    (trainer,) = pack_trainers(spec)
    data, run = trainer.dataset, trainer.runs[0]
    factory = family_factory(ModelOptions.of_run(run))
    module = factory(run.width, data.input_shape, data.num_classes).double()
    inputs, labels = one_tensor(data.x_train, data.name).double(), data.y_train
    matrices, losses = [], []
    for step in steps:
        trainer.advance(step)
        row = [
            _matrices(module, {name: tensor[run_index].double() for name, tensor in trainer.state.parameters.items()},
                      inputs, labels)
            for run_index in range(len(seeds))
        ]  # fmt: skip
        matrices.append([pair for pair, _ in row])
        losses.append([loss for _, loss in row])
    return matrices, np.array(losses)


def _matrices(
    module: nn.Module, parameters: dict[str, Tensor], inputs: Tensor, labels: Tensor
) -> tuple[Matrices, float]:
    sizes = [tensor.numel() for tensor in parameters.values()]

    def loss(point: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
        parts = zip(parameters.items(), torch.split(point, sizes), strict=True)
        at_point = {name: part.view(tensor.shape) for (name, tensor), part in parts}
        return nn.functional.cross_entropy(functional_call(module, at_point, (batch,)), targets)

    point = torch.cat([tensor.flatten() for tensor in parameters.values()])
    gradients = vmap(grad(loss), (None, 0, 0))(point, inputs.unsqueeze(1), labels.unsqueeze(1))
    hessian: Tensor = jacrev(grad(loss), chunk_size=_ROWS)(point, inputs, labels)
    return Matrices(torch.cov(gradients.T), hessian), float(loss(point, inputs, labels))
