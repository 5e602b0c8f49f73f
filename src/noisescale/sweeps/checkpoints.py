"""Checkpoints of packs (runs that train together), so that a killed worker loses only seconds of work."""

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

# Increase this number when the package can no longer continue from checkpoints of the previous format.
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a pack in training, with everything that a bit-exact continuation needs.

    Args:
        state: The state after the last finished step.
        choice: The kernel (the way to compute gradients) and the number of runs that train at once, in the form of
            `PackTrainer.choice` ("vmap 8").
    """

    state: PackState
    choice: str


@dataclass(frozen=True)
class CheckpointFile:
    """The checkpoint file of runs that train together.

    Args:
        folder: The folder of checkpoints. The first checkpoint creates it.
        runs: The runs. The file's name is the digest of their ids.
        code: Digest of the user's code that trains them; empty without code of a user.
    """

    folder: Path
    runs: tuple[Run, ...]
    code: str = ""

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.folder / f"{pack_id(list(self.runs))}{SUFFIX}"

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the file atomically: after a kill it holds either the old or the new checkpoint.

        Args:
            checkpoint: The new checkpoint.

        Raises:
            OSError: The file cannot be written. The old checkpoint stays.
        """
        self.folder.mkdir(exist_ok=True)
        state, choice = checkpoint.state.as_dict(), checkpoint.choice
        values = {"format": _FORMAT, "runs": self._ids, "state": state, "choice": choice, "code": self.code}
        write_atomically(self.path, lambda file: torch.save(values, file))

    def read(self) -> Checkpoint | None:
        """Read the file without executing any code in it.

        Only tensors, numbers, strings, lists and dictionaries are read.

        Returns:
            The checkpoint; None if there is no file, the file is damaged, or its format, runs or code differ.
        """
        try:
            with warnings.catch_warnings(), self.path.open("rb") as file:
                warnings.simplefilter("ignore")  # torch warns about the contents of foreign files
                _verify_checksums(file)
                values = torch.load(file, map_location="cpu", weights_only=True)
            state = PackState.from_dict(values["state"])
            usable = values["format"] == _FORMAT and values["runs"] == self._ids and values.get("code", "") == self.code
            return Checkpoint(state, str(values["choice"])) if usable else None
        except FileNotFoundError:
            return None
        # A damaged or foreign file must not end the sweep. The pack trains again from its first step.
        except Exception:
            self.discard()
            return None

    def discard(self) -> None:
        """Remove the file, if it exists and can be removed."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    @property
    def _ids(self) -> list[str]:
        """The ids of the runs, in the order in which the tensors of the state hold the runs."""
        return [run.run_id for run in self.runs]


def _verify_checksums(file: BinaryIO) -> None:
    """Verify the checksums of torch's ZIP file. Torch does not verify them, so it would accept a flipped bit."""
    with zipfile.ZipFile(file) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile
    file.seek(0)
