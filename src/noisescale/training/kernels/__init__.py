"""Kernels compute losses, gradients and outputs of R runs at once.

The trainer, the optimizers and the store use only the interface of a kernel. A kernel uses none of them.
"""

from noisescale.training.kernels.choose import KERNELS as KERNELS
from noisescale.training.kernels.choose import Choice as Choice
from noisescale.training.kernels.choose import choose_kernel as choose_kernel
from noisescale.training.kernels.generic import GenericKernel as GenericKernel
from noisescale.training.kernels.kernel import Kernel as Kernel
from noisescale.training.kernels.kernel import Tensors as Tensors
from noisescale.training.kernels.loop import LoopKernel as LoopKernel
from noisescale.training.kernels.mlp import MLPKernel as MLPKernel
from noisescale.training.kernels.packable import Trial as Trial
from noisescale.training.kernels.packable import moving_buffers as moving_buffers
