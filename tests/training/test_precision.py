"""The precision of training: which numbers have lower precision, and on which devices a precision is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from noisescale.errors import BadInput
from noisescale.training.precision import PRECISIONS

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer


def trained(make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer, precision: str, kernel: str,
            **changes: object) -> torch.Tensor:  # fmt: skip
    trainer = make_trainer([make_run(precision=precision, **changes)], make_data((1, 8, 8)), kernel=kernel)
    assert trainer.kernel == {"auto": trainer.kernel, "vmap": "vmap", "loop": "loop"}[kernel]
    trainer.advance()
    assert torch.isfinite(trainer.state.curves["train_loss"][-1]).all()
    tensors = trainer.state.parameters.values()
    assert {tensor.dtype for tensor in tensors} == {PRECISIONS[precision].dtype}
    return torch.cat([tensor.flatten().double() for tensor in tensors])


@pytest.mark.parametrize("family", ["mlp", "convnet"])
@pytest.mark.parametrize("kernel", ["auto", "vmap", "loop"])
def test_bfloat16_rounds_products_and_keeps_parameters_in_float32(
    family: str, kernel: str, make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    changes = {"family": family, "width": 8}
    exact, single, lowered = (
        trained(make_run, make_data, make_trainer, precision, kernel, **changes)
        for precision in ("float64", "float32", "bfloat16")
    )
    scale = exact.norm()
    assert (single - exact).norm() < 1e-4 * scale
    # bfloat16 has eight significant bits, so the difference is visible but small.
    assert 1e-4 * scale < (lowered - exact).norm() < 0.1 * scale


def test_the_settings_of_the_process_are_restored_afterwards() -> None:
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    try:
        products.allow_tf32 = True
        with PRECISIONS["float32"].apply("cpu"):
            assert not products.allow_tf32 and not torch.is_autocast_enabled("cpu")
        assert products.allow_tf32
        with PRECISIONS["bfloat16"].apply("cpu"):
            assert torch.get_autocast_dtype("cpu") == torch.bfloat16 and torch.is_autocast_enabled("cpu")
        with PRECISIONS["tf32"].apply("cpu"):
            assert torch.backends.cudnn.allow_tf32
    finally:
        products.allow_tf32 = before


def test_tf32_is_refused_on_a_cpu(make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer) -> None:
    with pytest.raises(BadInput, match="training.precision: 'tf32' with --device cuda only"):
        make_trainer([make_run(precision="tf32")], make_data())
