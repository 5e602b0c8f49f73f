"""The state of packs that are in training, written now and then, so that a kill costs seconds of work."""

from __future__ import annotations

import contextlib
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from noisescale.runs import Run, pack_id
from noisescale.store import write_atomically
from noisescale.training import PackState

SUFFIX = ".pt"

# Raised whenever a state that was written before can no longer be gone on with.
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state, and how the pack must be computed to go on to the bit.

    Args:
        choice: As `PackTrainer.choice` gives it.
    """

    state: PackState
    choice: str


@dataclass(frozen=True)
class CheckpointFile:
    """Where the state of some runs that train together lies.

    Args:
        folder: Made at the first checkpoint.
        runs: Those runs; the file's name is the digest of their ids.
    """

    folder: Path
    runs: tuple[Run, ...]

    @property
    def path(self) -> Path:
        return self.folder / f"{pack_id(list(self.runs))}{SUFFIX}"

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the file; readers and a kill see the old one or the new one.

        Raises:
            OSError: It cannot be written; the old one stays.
        """
        self.folder.mkdir(exist_ok=True)
        state, choice = checkpoint.state.as_dict(), checkpoint.choice
        values = {"format": _FORMAT, "runs": self._ids, "state": state, "choice": choice}
        write_atomically(self.path, lambda file: torch.save(values, file))

    def read(self) -> Checkpoint | None:
        """What was written; None where nothing was, or nothing that can be gone on with.

        No code in the file is executed: tensors, numbers, texts, lists and dictionaries are all that is read.
        """
        try:
            with warnings.catch_warnings(), self.path.open("rb") as file:
                warnings.simplefilter("ignore")  # of foreign files, about whose contents torch wonders
                _check_sums(file)
                values = torch.load(file, map_location="cpu", weights_only=True)
            state = PackState.from_dict(values["state"])
            usable = values["format"] == _FORMAT and values["runs"] == self._ids
            return Checkpoint(state, str(values["choice"])) if usable else None
        except FileNotFoundError:
            return None
        # A torn or foreign file is worth nothing and must cost nothing but the work: the pack begins anew.
        except Exception:
            self.discard()
            return None

    def discard(self) -> None:
        """Remove the file, if it is there and can be removed."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    @property
    def _ids(self) -> list[str]:
        """In order: the state's tensors have no other names for their runs."""
        return [run.run_id for run in self.runs]


def _check_sums(file: BinaryIO) -> None:
    """Check the sums of the ZIP file that torch writes, which torch does not: a flipped bit would train on unseen."""
    with zipfile.ZipFile(file) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile
    file.seek(0)
