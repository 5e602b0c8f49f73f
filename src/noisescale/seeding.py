"""Random generators that code of the user may draw from: torch's, NumPy's and Python's."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

# The state of each generator. A change of the state shows that numbers were drawn.
GENERATORS: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch.default_generator.get_state().numpy().tobytes(),
    "NumPy": lambda: pickle.dumps(np.random.get_state()),
    "Python": random.getstate,
}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators inside the block, and restore them afterwards.

    Args:
        seed: Any whole number of at most 64 bits. NumPy takes its last 32 bits.
    """
    with preserved_generators():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Restore the generators after the block."""
    of_torch, of_numpy, of_python = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(of_torch)
        np.random.set_state(of_numpy)
        random.setstate(of_python)


def drawn_from(call: Callable[[], object]) -> list[str]:
    """Return the names of the generators that a call draws from, and restore the generators.

    Args:
        call: A function without arguments.
    """
    with preserved_generators():
        before = {name: state() for name, state in GENERATORS.items()}
        call()
        return [name for name, state in GENERATORS.items() if state() != before[name]]
