"""The rows of docs/modules.md: kinds of modules, and whether their runs are trained together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

Factory = Callable[[int, tuple[int, ...], int], nn.Module]


@dataclass(frozen=True)
class Row:
    """A row of the table in docs/modules.md.

    Args:
        kind: What the module has.
        factory: Builds it.
        packed: Whether its runs are trained together.
    """

    kind: str
    factory: Factory
    packed: bool


ROWS: list[Row] = []


def row(kind: str, *, packed: bool = True) -> Callable[[Factory], Factory]:
    def add(factory: Factory) -> Factory:
        ROWS.append(Row(kind, factory, packed))
        return factory

    return add
