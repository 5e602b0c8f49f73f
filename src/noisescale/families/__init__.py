"""Who is trained: factories `(width, input_shape, num_classes) -> nn.Module`."""

from noisescale.families.convnet import convnet as convnet
from noisescale.families.custom import Factory as Factory
from noisescale.families.ghost_batch import GhostBatchNorm as GhostBatchNorm
from noisescale.families.layers import FixedReadOut as FixedReadOut
from noisescale.families.mlp import mlp as mlp
from noisescale.families.normalization import NORMALIZATIONS as NORMALIZATIONS
from noisescale.families.normalization import Normalization as Normalization
from noisescale.families.options import ModelOptions as ModelOptions
from noisescale.families.resnet import ResidualBlock as ResidualBlock
from noisescale.families.resnet import resnet as resnet
from noisescale.families.scale_invariance import ScaleDefect as ScaleDefect
from noisescale.families.scale_invariance import scale_invariance_defects as scale_invariance_defects
from noisescale.families.table import FAMILIES as FAMILIES
from noisescale.families.table import Family as Family
from noisescale.families.table import complete as complete
from noisescale.families.table import family_factory as family_factory
