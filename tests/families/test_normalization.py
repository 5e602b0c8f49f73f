"""Normalizations equal their formulas and torch's layers, and each run of a pack has separate statistics."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families import NORMALIZATIONS, GhostBatchNorm, Normalization

EPS, MOMENTUM = 1e-5, 0.1
SHAPES = [(12, 6), (12, 6, 5, 4)]
EXACT = dict(rtol=0, atol=1e-12)


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return 2 + 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def module_of(kind: Normalization, shape: tuple[int, ...], affine: bool = True) -> nn.Module:
    """Return the module in float64, with random gains and shifts."""
    module = kind.module(shape[1], spatial=len(shape) - 2, affine=affine).double()
    with torch.no_grad():
        for position, tensor in enumerate(module.parameters()):
            tensor.copy_(drawn(tuple(tensor.shape), seed=position + 1))
    return module


def axis_shape(tensor: Tensor, dimensions: int) -> Tensor:
    return tensor.view(1, -1, *[1] * (dimensions - 2))


def affine_of(module: nn.Module, outputs: Tensor) -> Tensor:
    parameters = dict(module.named_parameters())
    if not parameters:
        return outputs
    weight, bias = (axis_shape(parameters[name], outputs.dim()) for name in ("weight", "bias"))
    return outputs * weight + bias


def over(x: Tensor, axes: list[int]) -> Tensor:
    mean, variance = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
    return (x - mean) / (variance + EPS).sqrt()


def by_batch(x: Tensor) -> Tensor:
    return over(x, [axis for axis in range(x.dim()) if axis != 1])


def by_group(x: Tensor, groups: int) -> Tensor:
    parts = x.unflatten(1, (groups, -1))
    return over(parts, list(range(2, parts.dim()))).flatten(1, 2)


FORMULAS: dict[str, tuple[Normalization, Callable[[Tensor], Tensor]]] = {
    "none": (Normalization("none"), lambda x: x),
    "batch": (Normalization("batch"), by_batch),
    "ghost_batch": (
        Normalization("ghost_batch", ghost_size=4),
        lambda x: torch.cat([by_batch(part) for part in x.split(4)]),
    ),
    "layer": (Normalization("layer"), lambda x: by_group(x, 1)),
    "group": (Normalization("group", groups=3), lambda x: by_group(x, 3)),
}


def test_there_is_a_formula_for_every_normalization() -> None:
    assert FORMULAS.keys() == NORMALIZATIONS.keys()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=["vectors", "images"])
@pytest.mark.parametrize("name", FORMULAS)
def test_outputs_and_gradients_follow_the_formula(name: str, shape: tuple[int, ...], affine: bool) -> None:
    kind, formula = FORMULAS[name]
    module = module_of(kind, shape, affine)
    assert bool(list(module.parameters())) is (affine and name != "none")
    x = drawn(shape, seed=9).requires_grad_()
    outputs, expected = module(x), affine_of(module, formula(x))
    torch.testing.assert_close(outputs, expected, **EXACT)
    weights = drawn(shape, seed=8)
    leaves = [x, *module.parameters()]
    gradients, expected_gradients = (torch.autograd.grad((y * weights).sum(), leaves) for y in (outputs, expected))
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES, ids=["vectors", "images"])
@pytest.mark.parametrize("kind", [Normalization("batch"), Normalization("ghost_batch", ghost_size=4)])
def test_running_statistics_follow_the_unbiased_variance_and_are_used_in_evaluation(
    kind: Normalization, shape: tuple[int, ...]
) -> None:
    module = module_of(kind, shape)
    mean, variance = torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    for seed in range(3):
        x = drawn(shape, seed)
        module(x)
        parts = x.split(4) if kind.kind == "ghost_batch" else [x]
        axes = [axis for axis in range(x.dim()) if axis != 1]
        mean += MOMENTUM * (torch.stack([part.mean(axes) for part in parts]).mean(0) - mean)
        variance += MOMENTUM * (torch.stack([part.var(axes) for part in parts]).mean(0) - variance)
    torch.testing.assert_close(module.running_mean, mean, **EXACT)
    torch.testing.assert_close(module.running_var, variance, **EXACT)
    assert int(module.num_batches_tracked) == 3
    module.eval()
    x = drawn((1, *shape[1:]), seed=5)
    plain = (x - axis_shape(mean, x.dim())) / (axis_shape(variance, x.dim()) + EPS).sqrt()
    torch.testing.assert_close(module(x), affine_of(module, plain), **EXACT)
    torch.testing.assert_close(module.running_mean, mean, **EXACT)


@pytest.mark.parametrize("shape", SHAPES, ids=["vectors", "images"])
@pytest.mark.parametrize("name", [name for name in NORMALIZATIONS if name != "none"])
def test_runs_of_a_pack_have_separate_statistics(name: str, shape: tuple[int, ...], packed_step: Callable) -> None:
    """Three steps of four runs at once equal three steps of each single run by torch's autograd."""
    runs, module = 4, nn.Sequential(module_of(FORMULAS[name][0], shape), nn.Flatten()).train()
    parameters = {
        key: torch.stack([tensor.detach() + 0.1 * run for run in range(runs)])
        for key, tensor in module.named_parameters()
    }
    buffers = {key: torch.stack([tensor] * runs) for key, tensor in module.named_buffers()}
    alone = [module_of(FORMULAS[name][0], shape) for _ in range(runs)]
    for run, twin in enumerate(alone):
        with torch.no_grad():
            for key, tensor in twin.named_parameters():
                tensor.copy_(parameters[f"0.{key}"][run])
    for step in range(3):
        x = torch.stack([drawn(shape, seed=10 * step + run) for run in range(runs)])
        labels = torch.arange(shape[0]).expand(runs, -1) % 6
        gradients, losses = packed_step(module, parameters, buffers, x, labels)
        for run, twin in enumerate(alone):
            loss = nn.functional.cross_entropy(twin(x[run]).flatten(1), labels[run])
            expected = torch.autograd.grad(loss, list(twin.parameters()))
            torch.testing.assert_close(losses[run], loss.detach(), **EXACT)
            torch.testing.assert_close([part[run] for part in gradients.values()], list(expected), **EXACT)
            for key, tensor in twin.named_buffers():
                torch.testing.assert_close(buffers[f"0.{key}"][run], tensor, **EXACT)
    assert not any(tensor.any() for key, tensor in module.named_buffers() if key.endswith("running_mean"))


@pytest.mark.parametrize("batch", [3, 12])
@pytest.mark.parametrize("pixels", [(), (5, 4)])
def test_a_batch_up_to_the_ghost_size_is_normalized_as_a_whole(batch: int, pixels: tuple[int, ...]) -> None:
    ghost = GhostBatchNorm(6, 12).double()
    whole = (nn.BatchNorm2d(6) if pixels else nn.BatchNorm1d(6)).double()
    x = drawn((batch, 6, *pixels))
    assert torch.equal(ghost(x), whole(x))
    assert ghost.state_dict().keys() == whole.state_dict().keys()
    torch.testing.assert_close(dict(ghost.state_dict()), dict(whole.state_dict()), rtol=0, atol=0)


def test_without_momentum_ghost_statistics_average_over_batches() -> None:
    ghost = GhostBatchNorm(6, 4, affine=False).double()
    ghost.momentum = None
    batches = [drawn((8, 6), seed) for seed in range(3)]
    for batch in batches:
        ghost(batch)
    torch.testing.assert_close(ghost.running_mean, torch.cat(batches).mean(0), **EXACT)


def test_a_ghost_size_that_does_not_divide_the_batch_is_refused() -> None:
    with pytest.raises(BadInput, match=r"model\.ghost_size.*12.*Got: 5"):
        GhostBatchNorm(6, 5)(torch.randn(12, 6))
    assert GhostBatchNorm(6, 5).eval()(torch.randn(12, 6)).shape == (12, 6)
    with pytest.raises(BadInput, match="GhostBatchNorm"):
        GhostBatchNorm(6, 5)(torch.randn(4, 6, *[2] * 7))


@pytest.mark.parametrize(
    ("kind", "channels", "images", "message"),
    [
        (Normalization("group", groups=4), 6, True, r"model\.groups: a divisor.*Got: 4 for 6 channels"),
        (Normalization("group", groups=6), 6, False, r"model\.groups: .*no variance.*Got: 6 for 6 units"),
        (Normalization("layer"), 1, False, r"grid\.width: at least 2 with normalization 'layer'"),
    ],
)
def test_channels_that_cannot_be_normalized_are_refused(
    kind: Normalization, channels: int, images: bool, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        kind.module(channels, spatial=2 * images)
    assert Normalization("group", groups=6).module(6, spatial=2) is not None


@pytest.mark.parametrize(
    ("kind", "allowed", "refused"),
    [
        (Normalization("none"), (1, 2, 100), ()),
        (Normalization("layer"), (1, 2, 100), ()),
        (Normalization("group"), (1, 2, 100), ()),
        (Normalization("batch"), (2, 3, 100), (1,)),
        (Normalization("ghost_batch", ghost_size=8), (2, 3, 8, 16, 24), (1, 9, 12, 20)),
    ],
)
def test_batch_sizes_that_are_allowed(kind: Normalization, allowed: tuple[int, ...], refused: tuple[int, ...]) -> None:
    assert [kind.batch_fault(size) for size in allowed] == [None] * len(allowed)
    assert all(kind.batch_fault(size) for size in refused)
    assert [size for size in allowed if kind.falls_back(size)] == ([2, 3] if kind.kind == "ghost_batch" else [])
