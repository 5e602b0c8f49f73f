"""How: packs of runs trained as one program."""

from noisescale.training.pack import PackTrainer as PackTrainer
from noisescale.training.state import PackState as PackState
