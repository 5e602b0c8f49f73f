"""`noisescale export`: a study in the format of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noisescale.cli.arguments import Folder
from noisescale.cli.unfinished import warn_if_unfinished


def export_command(
    folder: Folder,
    to: Annotated[str, typer.Option(help="csv, parquet, optuna, tensorboard or mlflow.")],
    out: Annotated[
        Path, typer.Option(help="A path that does not exist yet: of a folder, or of a file if the format is one file.")
    ],
) -> int:
    """Write a study in the format of another tool."""
    from noisescale.exports import export
    from noisescale.store import Study

    study = Study.open(folder)
    warn_if_unfinished(folder)
    print(f"wrote {export(study, to, out)}")
    return 0
