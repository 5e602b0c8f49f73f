"""Instruments for packs. R networks are measured as one program, at some steps of their training."""

from noisescale.measure.packs.problem import PackProblem as PackProblem
from noisescale.measure.packs.snapshot import Snapshot as Snapshot
from noisescale.measure.packs.table import INSTRUMENTS as INSTRUMENTS
from noisescale.measure.packs.table import measure_pack as measure_pack
