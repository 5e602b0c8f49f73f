"""A claim is data: what a paper says, the statistic, the criterion, and the experiment that decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisescale.claims.criterion import Statistic

Scale = Literal["smoke", "laptop", "gpu"]
SCALES: tuple[Scale, ...] = ("smoke", "laptop", "gpu")
PAPERS = {
    "park2019": "Park, Sohl-Dickstein, Le, Smith 2019 (arXiv:1905.03776)",
    "li2020": "Li, Lyu, Arora 2020 (arXiv:2010.02916)",
    "smith2020": "Smith, Elsen, De 2020 (arXiv:2006.15081)",
    "jastrzebski2017": "Jastrzębski et al. 2017 (arXiv:1711.04623)",
}


@dataclass(frozen=True)
class Curve:
    """Points of a figure.

    Arguments:
        label: in the legend. x, y: [M]. low, high: [M], ends of intervals, or None. kind: "measured", a "theory" from
            which a number could have been foretold, or a "reference" to look along: no difference, a bound, a slope.
    """

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    kind: Literal["measured", "theory", "reference"] = "measured"


@dataclass(frozen=True)
class Panel:
    """A figure as data.

    Arguments:
        x_label, y_label: with units. curves: what is drawn. log_x, log_y: kinds of axes. whole_x: whether x counts.
    """

    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    log_x: bool = False
    log_y: bool = False
    whole_x: bool = False


@dataclass(frozen=True)
class Evidence:
    """What an experiment found.

    Arguments:
        statistics: decide the claim. panels: show it. runs: trained or simulated. setting: in one sentence.
        reported: numbers beside, without an interval. beside: statistics that decide nothing: the same comparison at
            equal training time, or by another metric.
    """

    statistics: tuple[Statistic, ...]
    panels: tuple[Panel, ...]
    runs: int
    setting: str
    reported: Mapping[str, float] = field(default_factory=dict)
    beside: tuple[Statistic, ...] = ()


@dataclass(frozen=True)
class Request:
    """What an experiment is asked for.

    Arguments:
        scale: its size. first_seed: of the set; sets that are 1,000 apart share none. folder: where sweeps are kept,
            that others may want too. null: whether the effect is taken out, and the claim must not be supported.
        max_seconds: after which a sweep is put aside, to be gone on with by the next request. used: filled by whoever
            trains at the size of a GPU, with the setting and with what differs from the paper's. planted: the names of
            studies that were planted in place of trained. devices: on which the runs of its sweeps were trained.
    """

    scale: Scale
    first_seed: int
    folder: Path
    null: bool = False
    max_seconds: float | None = None
    used: list[tuple[str, str]] = field(default_factory=list)
    planted: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)


class NotRun(Exception):
    """Why an experiment has no evidence: there is none at this scale, or its sweep was put aside."""


Experiment = Callable[[Request], Evidence]


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Arguments:
        id: "C2.3". paper: a key of `PAPERS`. statement: in one sentence. statistic: what decides. criterion: in words.
        experiment: None while there is none; the verdict is then "not run". minutes: at laptop scale on 2 cores.
        differs: how the setting differs from the paper's. source: "read", "derived" or "recalled", as the statement is
            known to us. disputed: where the literature disagrees, and with what. at_gpu: whether it has sweeps at the
            size of a GPU.
    """

    id: str
    paper: str
    statement: str
    statistic: str
    criterion: str
    source: str
    experiment: Experiment | None = None
    minutes: float = 0.0
    differs: str = ""
    disputed: str = ""
    at_gpu: bool = False
