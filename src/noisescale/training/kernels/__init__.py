"""The one seam of the trainer: losses and gradients of R runs at once.

Optimizer, sampling, divergence, evaluation and storage lie outside it and know no family.
"""

from noisescale.training.kernels.choose import KERNELS as KERNELS
from noisescale.training.kernels.choose import Choice as Choice
from noisescale.training.kernels.choose import choose_kernel as choose_kernel
from noisescale.training.kernels.generic import GenericKernel as GenericKernel
from noisescale.training.kernels.loop import LoopKernel as LoopKernel
from noisescale.training.kernels.mlp import MLPKernel as MLPKernel
from noisescale.training.kernels.packable import Trial as Trial
from noisescale.training.kernels.packable import moving_buffers as moving_buffers
from noisescale.training.kernels.seam import Kernel as Kernel
from noisescale.training.kernels.seam import Tensors as Tensors
