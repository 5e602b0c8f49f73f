"""Exports a study as TensorBoard event files, in one folder for each run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from noisescale.exports.entries import entries
from noisescale.store import Study


def write_tensorboard(study: Study, path: Path) -> None:
    """Write the curves as scalars by step. The HParams tab shows the results and the hyperparameters that vary.

    Args:
        study: The study.
        path: The new folder.
    """
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard import summary as summaries

    path.mkdir()
    for entry in entries(study):
        with SummaryWriter(str(path / entry.run_id)) as writer:
            for name, pairs in entry.curves.items():
                for step, value in pairs:
                    writer.add_scalar(name, value, step)
            settings = {
                name: value if isinstance(value, int | float) else str(value)
                for name, value in entry.hyperparameters.items()
            }
            hparams: Callable[..., Iterable[Any]] = summaries.hparams
            # `add_hparams` would write to another folder.
            for summary in hparams(settings, {f"late/{name}": value for name, value in entry.results.items()}):
                writer.file_writer.add_summary(summary)
            for name, value in entry.results.items():
                writer.add_scalar(f"late/{name}", value, 0)
