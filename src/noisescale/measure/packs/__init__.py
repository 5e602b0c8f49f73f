"""Instruments for packs: R networks measured as one program, at steps of a sweep."""

from noisescale.measure.packs.problem import PackProblem as PackProblem
from noisescale.measure.packs.snapshot import Snapshot as Snapshot
from noisescale.measure.packs.table import INSTRUMENTS as INSTRUMENTS
from noisescale.measure.packs.table import measure_pack as measure_pack
