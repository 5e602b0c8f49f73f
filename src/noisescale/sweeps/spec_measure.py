"""The `[measure]` section of a spec, and the fields of runs that are neither measured nor averaged."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from noisescale.measure import INSTRUMENTS
from noisescale.sweeps.axes import LARGEST_INTEGER
from noisescale.sweeps.spec_values import Section, Shares, choices, key, some_of

NOT_MEASURED: dict[str, Any] = {"measure": "", "measure_at": "", "measure_examples": None}
NOT_AVERAGED: dict[str, Any] = {"average": False, "average_decay": None}


class MeasureSection(Section):
    """The instruments that measure every run of the grid along its training."""

    quantities: Annotated[tuple[str, ...], some_of(INSTRUMENTS)] = key(
        "list of " + choices(INSTRUMENTS),
        "quantities to measure",
        default=(),
    )
    at: Shares = key(
        "list of numbers from 0 to 1",
        "when to measure, as fractions of the budget; each at the nearest evaluation",
        default=(0.0, 0.25, 0.5, 0.75, 1.0),
    )
    examples: Annotated[int, Field(ge=16, le=LARGEST_INTEGER)] = key(
        "whole number from 16",
        "number of training examples on which gradients and curvature are measured, drawn by `dataset.data_seed`; all "
        "examples if there are fewer",
        default=512,
    )

    def run_fields(self) -> dict[str, Any]:
        """Return the fields of `Run` for these instruments; without instruments, the fields of an unmeasured run."""
        if not self.quantities:
            return NOT_MEASURED
        at = " ".join(map(repr, self.at))
        return {"measure": " ".join(self.quantities), "measure_at": at, "measure_examples": self.examples}
