"""The batch sizes on which a model can be trained, and their record in the folder of a sweep."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from noisescale.errors import BadInput

MODEL = "model.json"


@dataclass(frozen=True, slots=True)
class AcceptedBatches:
    """The batch sizes that a model accepts in training mode.

    Args:
        smallest: Smallest batch size, in examples.
        ghost_sizes: Sizes of ghost batches in the model. A larger batch must be a multiple of each.
        error: The error that the model raises on a smaller batch; empty if `smallest` is 1.
    """

    smallest: int = 1
    ghost_sizes: tuple[int, ...] = ()
    error: str = ""

    def fault(self, batch_size: int) -> str | None:
        """Return the requirement that a batch size violates. None if the model accepts it."""
        if batch_size < self.smallest:
            reason = f" (with fewer it raises {self.error})" if self.error else ""
            return f"batches on which the model can be trained, of at least {self.smallest} examples{reason}"
        for size in self.ghost_sizes:
            if batch_size > size and batch_size % size:
                return f"batches on which the model can be trained: multiples of its ghost size {size}, or sizes below"
        return None

    def text(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(asdict(self))


def read_accepted_batches(folder: Path) -> AcceptedBatches | None:
    """Read the record of a sweep; None if the folder has none, as in version 0.1.

    Args:
        folder: The folder of the sweep.

    Raises:
        BadInput: The record is damaged.
    """
    path = folder / MODEL
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        smallest, sizes, error = values["smallest"], tuple(values["ghost_sizes"]), values["error"]
        if not all(type(size) is int and size > 0 for size in (smallest, *sizes)) or not isinstance(error, str):
            raise ValueError("sizes must be positive integers")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        required = "the batch sizes of the model as a sweep wrote them; the same `noisescale sweep` writes them again"
        raise BadInput(str(path), required, "something else") from None
    return AcceptedBatches(smallest, sizes, error)
