"""The export formats by name, and the function that exports a study."""

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
        to: The format, a key of `FORMATS`.
        out: The path of the new folder, or for "optuna" of the new database file. It must not exist yet.

    Returns:
        The path. After an error, nothing exists at this path.

    Raises:
        BadInput: The format is unknown, the path exists or cannot be created, the study has no finished run, or the
            library of the format is not installed.
    """
    if to not in FORMATS:
        raise unknown_name("--to", tuple(FORMATS), to)
    path = Path(out)
    if path.exists():
        raise BadInput("--out", "a path that does not exist yet; an export never overwrites anything", str(path))
    if study.finished().empty:
        raise BadInput(str(study.folder), "a study with at least one finished run", "none")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".export-", dir=path.parent))
    except OSError as error:
        raise BadInput("--out", "a path that can be created", f"{path}: {error.strerror}") from None
    try:
        FORMATS[to](study, temporary / "export")
        os.replace(temporary / "export", path)
    except ModuleNotFoundError as error:
        install = f"pip install 'noisescale[{to}]', for {error.name}"
        raise BadInput("--to", f"a format whose library is installed: {install}", to) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path
