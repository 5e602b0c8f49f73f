"""Formats by name, and the one way to them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from noisescale.errors import BadInput, unknown_name
from noisescale.exports.mlflow import write_mlflow
from noisescale.exports.optuna import write_optuna
from noisescale.exports.tables import write_csv, write_parquet
from noisescale.exports.tensorboard import write_tensorboard
from noisescale.store import Study

Write = Callable[[Study, Path], None]

FORMATS: dict[str, Write] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "optuna": write_optuna,
    "tensorboard": write_tensorboard,
    "mlflow": write_mlflow,
}


def export(study: Study, to: str, out: str | Path) -> Path:
    """Write a study for another tool.

    Args:
        study: The study.
        to: A name in `FORMATS`.
        out: A path that is not there yet: the folder, or for optuna the database's file.

    Returns:
        The path; it is there with everything in it or, after an error, not at all.

    Raises:
        BadInput: An unknown format, a path that is taken or cannot be made, a study without runs, or a library that is
            not installed.
    """
    if to not in FORMATS:
        raise unknown_name("--to", tuple(FORMATS), to)
    path = Path(out)
    if path.exists():
        raise BadInput("--out", "a path that is not there yet; an export never writes over anything", str(path))
    if study.finished().empty:
        raise BadInput(str(study.folder), "a study with at least one finished run", "none")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".export-", dir=path.parent))
    except OSError as error:
        raise BadInput("--out", "a path that can be made", f"{path}: {error.strerror}") from None
    try:
        FORMATS[to](study, aside / "whole")
        os.replace(aside / "whole", path)
    except ModuleNotFoundError as error:
        missing = f"pip install 'noisescale[{to}]', for {error.name}"
        raise BadInput("--to", f"a format whose library is installed: {missing}", to) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path
