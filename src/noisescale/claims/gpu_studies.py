"""The shared sweeps at the size of one GPU: as near the papers' own settings as that allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from noisescale.sweeps import SweepSpec

_SQRT_2 = 2**0.5


@dataclass(frozen=True)
class GpuStudy:
    """A sweep that stands in for what a claim trains at laptop size.

    Arguments:
        build: from the first seed to the specs. differs: from the paper's setting.
    """

    build: Callable[[int], list[SweepSpec]]
    differs: str

    @property
    def setting(self) -> str:
        """What is trained, in a sentence."""
        return (self.build.__doc__ or "").strip().splitlines()[0]


def _spec(name: str, first: int, seeds: int, **sections: dict[str, Any]) -> list[SweepSpec]:
    values: dict[str, Any] = {
        "name": name, "seeds": list(range(first, first + seeds)), "fit": {"extend_edges": False},
        "stability": {"seeds": 0}, **sections,
    }  # fmt: skip
    return [SweepSpec.from_dict(values, f"the claims' study {name}")]


def _ladder(low: float, high: float, factor: float = _SQRT_2) -> dict[str, float]:
    return {"from": low, "to": high, "factor": factor}


def _fashion(
    name: str, first: int, parameterization: str, batches: list[int], training: dict[str, Any],
    **sections: dict[str, Any],
) -> list[SweepSpec]:  # fmt: skip
    rate = 1.0 if parameterization == "ntk" else 0.05
    return _spec(
        name, first, 10,
        dataset={"name": "fashion_mnist", "label_noise": 0.1}, model={"family": "convnet", "depth": 3},
        grid={"parameterization": [parameterization], "width": [8, 12, 16, 24, 32, 48, 64], "learning_rate": [rate],
              "batch_size": batches},
        training=training, **sections,
    )  # fmt: skip


_FASHION_BATCHES = [8, 11, 16, 23, 32, 45, 64]
_STABILITY = {"steps": 300, "seeds": 8, "batch_size": [8, 32, 128, 512]}


def _over_channels(name: str, first: int, parameterization: str) -> list[SweepSpec]:
    training = {"steps": 100_000, "evaluations": 16}
    return _fashion(
        name, first, parameterization, _FASHION_BATCHES, training, fit={"extend_edges": True}, stability=_STABILITY
    )


def ntk_convnets(first: int) -> list[SweepSpec]:
    """Convolutional networks under NTK on Fashion-MNIST, over channels."""
    return _over_channels("gpu-over-widths", first, "ntk")


def standard_convnets(first: int) -> list[SweepSpec]:
    """The same in the standard parameterization."""
    return _over_channels("gpu-standard-over-widths", first, "standard")


def ntk_convnets_at_equal_epochs(first: int) -> list[SweepSpec]:
    """As `ntk_convnets`, 60 epochs at every batch."""
    training = {"epochs": 60, "evaluations": 16}
    return _fashion("gpu-over-widths-at-equal-epochs", first, "ntk", _FASHION_BATCHES, training)


def stable_rates_of_ntk_convnets(first: int) -> list[SweepSpec]:
    """Ladders of rates over 300 steps for the networks of `ntk_convnets`, by cross-entropy."""
    return _only_stability("gpu-stable-rates", first, "ntk")


def stable_rates_of_standard_convnets(first: int) -> list[SweepSpec]:
    """The same in the standard parameterization."""
    return _only_stability("gpu-standard-stable-rates", first, "standard")


def _only_stability(name: str, first: int, parameterization: str) -> list[SweepSpec]:
    return _fashion(name, first, parameterization, [512], {"steps": 20, "evaluations": 2}, stability=_STABILITY)


def _cifar(name: str, first: int, model: dict[str, Any]) -> list[SweepSpec]:
    # NTK, where ḡ is εN/B: at one rate in the standard parameterization ḡ = g·d/σ0² grows with width by its unit, even
    # if the best batch is the same at all widths.
    return _spec(
        name, first, 5, dataset={"name": "cifar10"}, model={"normalization": "batch", **model},
        grid={"parameterization": ["ntk"], "width": [8, 11, 16, 23, 32, 45], "learning_rate": [4.0],
              "batch_size": [16, 23, 32, 45, 64, 91, 128, 181]},
        training={"epochs": 100, "evaluations": 20},
    )  # fmt: skip


def residual_networks(first: int) -> list[SweepSpec]:
    """Residual networks of sixteen layers with batch norm under NTK on CIFAR-10, over widths."""
    return _cifar("gpu-residual-networks", first, {"family": "resnet", "blocks": [2, 2, 2]})


def convolutional_networks(first: int) -> list[SweepSpec]:
    """Convolutional networks with batch norm under NTK on CIFAR-10, over widths."""
    return _cifar("gpu-convolutional-networks", first, {"family": "convnet", "depth": 5})


def _wide(name: str, first: int, grid: dict[str, Any], training: dict[str, Any], seeds: int = 3) -> list[SweepSpec]:
    """WRN-16-4 as Smith, Elsen, De 2020 are recalled to have it: ghost batches of 64, decay 5e-4."""
    return _spec(
        name, first, seeds, dataset={"name": "cifar10"},
        model={"family": "resnet", "blocks": [2, 2, 2], "normalization": "ghost_batch", "ghost_size": 64},
        grid={"parameterization": ["standard"], "width": [64], "weight_decay": [5e-4], **grid},
        training={"schedule": {"kind": "halving"}, "augmentation": ["flip", "crop"], "evaluations": 20, **training},
    )  # fmt: skip


_BATCHES = [64, 128, 256, 512, 1024, 2048, 4096]


def wide_networks_at_equal_epochs(first: int) -> list[SweepSpec]:
    """A ladder of rates at each batch, 200 epochs, without momentum."""
    grid = {"learning_rate": _ladder(0.0625, 16.0, 2.0), "batch_size": _BATCHES}
    return _wide("gpu-tuned-at-equal-epochs", first, grid, {"epochs": 200})


def wide_networks_with_momentum(first: int) -> list[SweepSpec]:
    """The same with momentum 0.9."""
    grid = {"learning_rate": _ladder(0.0078125, 2.0, 2.0), "batch_size": _BATCHES, "momentum": [0.9]}
    return _wide("gpu-tuned-with-momentum", first, grid, {"epochs": 200})


def wide_networks_at_equal_steps(first: int) -> list[SweepSpec]:
    """A ladder of rates at each batch, 9,765 steps; three pairs of seeds, each of which chooses the other's rate."""
    grid = {"learning_rate": _ladder(0.0625, 16.0, 2.0), "batch_size": _BATCHES, "momentum": [0.9]}
    return _wide("gpu-equal-steps", first, grid, {"steps": 9765}, seeds=6)


def schedules_on_cifar10(first: int) -> list[SweepSpec]:
    """Two schedules of the rate, those of the batch in their place, and neither."""
    step, cyclic = {"kind": "step", "at": [0.5, 0.75], "factor": 0.25}, {"kind": "cyclic", "low": 0.2, "cycles": 30}
    moved = [{**one, "of": "batch_size"} for one in (step, cyclic)]
    return _spec(
        "gpu-batch-schedules", first, 5, dataset={"name": "cifar10"}, model={"family": "convnet", "depth": 5},
        grid={"parameterization": ["standard"], "width": [64], "learning_rate": [0.005], "batch_size": [128],
              "schedule": [step, moved[0], cyclic, moved[1], {"kind": "constant"}]},
        training={"epochs": 300, "evaluations": 30, "augmentation": ["flip", "crop"]},
    )  # fmt: skip


def _residual(
    name: str, first: int, grid: dict[str, Any], training: dict[str, Any], **sections: Any
) -> list[SweepSpec]:
    """Scale-invariant residual networks of 32 layers with batch norm, plain SGD on independent batches of CIFAR-10."""
    return _spec(
        name, first, 3, dataset={"name": "cifar10"},
        model={"family": "resnet", "blocks": [5, 5, 5], "normalization": "batch", "scale_invariant": True},
        grid={"parameterization": ["standard"], "width": [16], "batch_size": [128], **grid},
        training={"sampling": "with_replacement", **training}, **sections,
    )  # fmt: skip


def residual_networks_with_decay(first: int) -> list[SweepSpec]:
    """Residual networks of 32 layers with batch norm on CIFAR-10, 8 to 512 times 1/(ηλ) steps, over η and λ."""
    return _residual(
        "gpu-normalized-networks", first,
        grid={"learning_rate": [0.1, 0.4], "weight_decay": [0.002, 0.008, 0.032]},
        training={"steps": 40_000, "evaluations": 80},
        measure={"quantities": ["weight_norm_squared", "rotation"], "at": [0.5 + place / 80 for place in range(1, 41)],
                 "examples": 128},
    )  # fmt: skip


def residual_networks_after_histories(first: int) -> list[SweepSpec]:
    """Residual networks of 32 layers with batch norm on CIFAR-10 after five random histories, 5/(ηλ) steps each.

    Then as many steps of a common η and λ.
    """
    histories = [{"kind": "random", "pieces": 2, "low": 0.0625, "until": 0.5, "seed": seed} for seed in range(5)]
    return _residual(
        "gpu-normalized-histories", first,
        grid={"learning_rate": [0.4], "weight_decay": [0.00125], "schedule": histories},
        training={"steps": 20_000, "evaluations": 80},
        measure={"quantities": ["weight_norm_squared"], "at": [0.4 + place / 80 for place in range(1, 49)],
                 "examples": 128},
    )  # fmt: skip


SHARES_OF_CURVATURE = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def deep_networks_over_batches(first: int) -> list[SweepSpec]:
    """MLPs of four hidden layers of width 128 on Fashion-MNIST, mse, one η and four S, 40,000 steps."""
    return _spec(
        "gpu-curvature-over-batches", first, 8, dataset={"name": "fashion_mnist"}, model={"family": "mlp", "depth": 4},
        grid={"parameterization": ["standard"], "width": [128], "learning_rate": [0.02],
              "batch_size": [8, 16, 32, 64]},
        training={"steps": 40_000, "loss": "mse", "evaluations": 10, "sampling": "with_replacement"},
        measure={"quantities": ["lambda_max", "hessian_trace"], "at": list(SHARES_OF_CURVATURE), "examples": 2048},
    )  # fmt: skip


_NO_NUMBERS = "its grid, budget and number of seeds are ours, since the paper's are not known to us"
_NORMALIZED = (
    "as in the paper but for a fixed read-out, no gains, independent batches and no augmentation, ε = 1e-5 in the "
    "normalization; 3 seeds"
)
_RECALLED = "its grid and schedule are recalled, not read"
# By the name of the sweep of laptop size; the last three stand for experiments that train by hand there.
GPU_STUDIES = {
    "over_widths": GpuStudy(ntk_convnets, f"convolutional networks on Fashion-MNIST as in the paper; {_NO_NUMBERS}"),
    "standard_over_widths": GpuStudy(standard_convnets, f"as in the paper, on Fashion-MNIST; {_NO_NUMBERS}"),
    "over_widths_at_equal_epochs": GpuStudy(ntk_convnets_at_equal_epochs, f"as in the paper; {_NO_NUMBERS}"),
    "stable_rates": GpuStudy(
        stable_rates_of_ntk_convnets, f"as in the paper, on Fashion-MNIST, without squared error; {_NO_NUMBERS}"
    ),
    "standard_stable_rates": GpuStudy(stable_rates_of_standard_convnets, f"as in the paper; {_NO_NUMBERS}"),
    "residual_networks_with_batch_norm": GpuStudy(
        residual_networks, f"residual networks of 16 layers, under NTK, where the paper has wide ones; {_NO_NUMBERS}"
    ),
    "convolutional_networks_with_batch_norm": GpuStudy(convolutional_networks, f"under NTK; {_NO_NUMBERS}"),
    "tuned_at_equal_epochs": GpuStudy(wide_networks_at_equal_epochs, f"{_RECALLED}; 3 seeds"),
    "tuned_with_momentum": GpuStudy(wide_networks_with_momentum, f"{_RECALLED}; 3 seeds"),
    "equal_steps_with_ghost_batches": GpuStudy(wide_networks_at_equal_steps, f"{_RECALLED}; 6 seeds"),
    "batch_schedules": GpuStudy(
        schedules_on_cifar10, "a network of five convolutions where the paper has VGG-11, with its own rates and cycles"
    ),
    "normalized_networks": GpuStudy(
        residual_networks_with_decay,
        f"{_NORMALIZED}; η and λ are larger, so that equilibrium comes sooner; ‖g‖² is taken from the angle of a step, "
        "so that the norm and the rotation are one test, of stationarity",
    ),
    "normalized_histories": GpuStudy(
        residual_networks_after_histories,
        f"{_NORMALIZED}; histories of two random pieces, 26 epochs in all where the paper has 500, of which those with "
        "the smallest ηλ do not come to an equilibrium of their own",
    ),
    "curvature_over_batches": GpuStudy(
        deep_networks_over_batches,
        "four hidden layers and mse where the paper has an MLP of 20 layers, ResNet-56 and cross-entropy; the batch "
        "varied",
    ),
}
