"""Ghost batch normalization: statistics are taken over parts of a batch of fixed size, whatever the batch size."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

# The base class of torch's BatchNorm1d and BatchNorm2d. Code that looks for batch normalization therefore recognizes
# `GhostBatchNorm` too.
from torch.nn.modules.batchnorm import _BatchNorm

from noisescale.errors import BadInput
from noisescale.families.spatial import SPATIAL, spatial_axes


class GhostBatchNorm(_BatchNorm):
    """Batch normalization over ghost batches. The examples 1 … S, S+1 … 2S, … of a batch are normalized separately.

    A batch of at most S examples is one ghost batch, as in plain batch normalization. In training mode, each batch
    moves the running statistics by the fraction `momentum` towards the mean and the unbiased variance, averaged over
    the ghost batches. Evaluation mode uses the running statistics.

    Activations have the shape [B, C], then their positions, of a kind in `SPATIAL`.

    Args:
        channels: Number C of channels.
        ghost_size: Number S of examples in a ghost batch. Every larger batch size must be a multiple of it.
        eps: Number ε that is added to the variance.
        momentum: Fraction by which one batch moves the running statistics.
        affine: Whether to learn a gain and a shift for each channel.

    Raises:
        BadInput: In training mode, the size of a batch is above the ghost size and not a multiple of it.

    Source:
        Hoffer, Hubara, Soudry 2017, algorithm 1. In this algorithm, every ghost batch moves the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, channels: int, ghost_size: int, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        super().__init__(channels, eps, momentum, affine)
        self.ghost_size = ghost_size

    def forward(self, input: Tensor) -> Tensor:
        """Return outputs with the shape of the inputs. In training mode, the buffers change in place."""
        examples = input.shape[0]
        if not self.training or examples <= self.ghost_size:
            return super().forward(input)
        if examples % self.ghost_size:
            raise BadInput("model.ghost_size", f"a divisor of the batch of {examples}", self.ghost_size)
        self.num_batches_tracked.add_(1)
        # If the momentum is None, average over all batches, as torch's layers do (`torch.optim.swa_utils.update_bn`).
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        # Ghost batches become further channels, so that one call of torch's kernel normalizes all ghost batches.
        ghosts, (channels, *positions) = examples // self.ghost_size, input.shape[1:]
        parts = input.reshape(ghosts, self.ghost_size, channels, *positions).transpose(0, 1).flatten(1, 2)
        mean, variance = self.running_mean.repeat(ghosts), self.running_var.repeat(ghosts)
        weight, bias = (None if tensor is None else tensor.repeat(ghosts) for tensor in (self.weight, self.bias))
        outputs = F.batch_norm(parts, mean, variance, weight, bias, True, momentum, self.eps)
        self.running_mean.copy_(mean.view(ghosts, channels).mean(0))
        self.running_var.copy_(variance.view(ghosts, channels).mean(0))
        return outputs.view(self.ghost_size, ghosts, channels, *positions).transpose(0, 1).flatten(0, 1)

    def _check_input_dim(self, input: Tensor) -> None:
        if spatial_axes(input.shape[1:]) not in SPATIAL:
            kinds = ", ".join(layers.inputs for layers in SPATIAL.values() if not layers.channels_last)
            raise BadInput("GhostBatchNorm", f"a batch of {kinds}", f"shape {tuple(input.shape)}")
