"""A study as TensorBoard event files, a folder a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from noisescale.exports.entries import entries
from noisescale.store import Study


def write_tensorboard(study: Study, path: Path) -> None:
    """Curves as scalars by step, and what varies beside the results for the HParams tab."""
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard import summary as summaries

    path.mkdir()
    for entry in entries(study):
        with SummaryWriter(str(path / entry.run_id)) as writer:
            for name, pairs in entry.curves.items():
                for step, value in pairs:
                    writer.add_scalar(name, value, step)
            given = {name: own if isinstance(own, int | float) else str(own) for name, own in entry.given.items()}
            hparams: Callable[..., Iterable[Any]] = summaries.hparams
            # Into the run's own folder: `add_hparams` would open another.
            for summary in hparams(given, {f"late/{name}": own for name, own in entry.found.items()}):
                writer.file_writer.add_summary(summary)
            for name, value in entry.found.items():
                writer.add_scalar(f"late/{name}", value, 0)
