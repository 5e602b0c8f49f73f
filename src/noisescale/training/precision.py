"""The floating-point precision with which a pack is trained. It is recorded with every run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from noisescale.errors import BadInput


@dataclass(frozen=True, slots=True)
class Precision:
    """The floating-point formats of training.

    Args:
        dtype: Precision of parameters, optimizer and losses.
        lowered: Precision of matrix products and convolutions under `torch.autocast`. Normalization and losses keep
            `dtype`. None if everything is computed in `dtype`.
        tf32: Whether the GPU may round the factors of a float32 product to 10 bits of mantissa.
    """

    dtype: torch.dtype
    lowered: torch.dtype | None = None
    tf32: bool = False

    @contextmanager
    def apply(self, device: str) -> Iterator[None]:
        """Compute with this precision within the `with` block. The settings of the process are restored afterwards."""
        products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
        before = products.allow_tf32, convolutions.allow_tf32
        products.allow_tf32 = convolutions.allow_tf32 = self.tf32
        try:
            # Weights change at every step, and autocast empties its cache only at the end of the block.
            lowered = self.lowered is not None
            with torch.autocast(device, dtype=self.lowered, enabled=lowered, cache_enabled=False):
                yield
        finally:
            products.allow_tf32, convolutions.allow_tf32 = before


PRECISIONS: dict[str, Precision] = {
    "float64": Precision(torch.float64),
    "float32": Precision(torch.float32),
    "tf32": Precision(torch.float32, tf32=True),
    "bfloat16": Precision(torch.float32, lowered=torch.bfloat16),
}


def check_precision(name: str, device: str) -> None:
    """Refuse a precision that the device does not have.

    Raises:
        BadInput: The precision is tf32 and the device is not a CUDA GPU.
    """
    if PRECISIONS[name].tf32 and device != "cuda":
        raise BadInput("training.precision", "'tf32' with --device cuda only, and 'float32' on a CPU", repr(name))
