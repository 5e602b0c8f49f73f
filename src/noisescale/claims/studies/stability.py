"""Studies of the largest stable rate over widths, with ladders of rates and a minimal grid."""

from __future__ import annotations

from noisescale.claims.studies.specs import mnist1d_spec
from noisescale.claims.studies.widths import NETWORK, OUR_GRID, fashion_convnets
from noisescale.claims.study import ClaimStudy, GpuSweeps
from noisescale.sweeps import SweepSpec

_WIDTHS = [32, 40, 48, 64, 80, 96, 112, 128]
_STANDARD_WIDTHS = [32, 48, 56, 64, 80, 96, 112, 128]


def _only_stability(
    name: str, first_seed: int, seeds: int, widths: list[int], parameterization: str, rate: float
) -> list[SweepSpec]:
    spec = mnist1d_spec(
        name, first_seed, seeds,
        grid={"parameterization": [parameterization], "width": widths, "learning_rate": [rate], "batch_size": [256]},
        training={"steps": 20, "evaluations": 2},
        stability={"steps": 300, "seeds": seeds, "batch_size": [4, 16, 64, 256]},
    )  # fmt: skip
    return [spec]


def _fashion_stability(name: str, first_seed: int, parameterization: str) -> list[SweepSpec]:
    return fashion_convnets(
        name, first_seed, parameterization, [512], {"steps": 20, "evaluations": 2},
        stability={"steps": 300, "seeds": 8, "batch_size": [8, 32, 128, 512]},
    )  # fmt: skip


def _squared_error(first_seed: int, parameterization: str) -> list[SweepSpec]:
    # The theory of the largest stable rate is for squared error and the whole training set.
    grid = {
        "parameterization": [parameterization], "width": [32, 48, 64, 96, 128, 192, 256], "learning_rate": [0.01],
        "batch_size": [512],
    }  # fmt: skip
    spec = mnist1d_spec(
        f"squared-error-{parameterization}", first_seed, 8, dataset={"train_size": 512, "test_size": 500}, grid=grid,
        training={"steps": 20, "loss": "mse", "evaluations": 2},
        measure={"quantities": ["ntk_lambda_max"], "at": [0.0], "examples": 512},
        stability={"steps": 100, "seeds": 8, "batch_size": [512]},
    )  # fmt: skip
    return [spec]


STABLE_RATES = ClaimStudy(
    f"{NETWORK}, NTK, ladders of rates over 300 steps, widths 32 to 128, 16 seeds",
    lambda first_seed: _only_stability("stable-rates", first_seed, 16, _WIDTHS, "ntk", 8.0),
    GpuSweeps(
        lambda first_seed: _fashion_stability("gpu-stable-rates", first_seed, "ntk"),
        "Convolutional networks under NTK on Fashion-MNIST, ladders of rates over 300 steps, cross-entropy",
        f"We train convolutional networks on Fashion-MNIST, as the paper does, and not with squared error. {OUR_GRID}",
    ),
)
STANDARD_STABLE_RATES = ClaimStudy(
    f"{NETWORK}, standard parameterization, ladders of rates over 300 steps, widths 32 to 128, 8 seeds",
    lambda first_seed: _only_stability("standard-stable-rates", first_seed, 8, _STANDARD_WIDTHS, "standard", 0.25),
    GpuSweeps(
        lambda first_seed: _fashion_stability("gpu-standard-stable-rates", first_seed, "standard"),
        "Convolutional networks in the standard parameterization on Fashion-MNIST, ladders of rates over 300 steps, "
        "cross-entropy",
        f"We train convolutional networks on Fashion-MNIST, as the paper does. {OUR_GRID}",
    ),
)
SQUARED_ERROR = ClaimStudy(
    "MLP, one hidden layer, NTK, squared error, batches of all 512 training examples, widths 32 to 256",
    lambda first_seed: _squared_error(first_seed, "ntk"),
)
STANDARD_SQUARED_ERROR = ClaimStudy(
    "MLP, one hidden layer, standard parameterization, squared error, batches of all 512 training examples, widths 32 "
    "to 256",
    lambda first_seed: _squared_error(first_seed, "standard"),
)
