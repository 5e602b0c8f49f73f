"""Shards: immutable Parquet files, written atomically.

A shard holds the results of one pack, a set of runs that train together. Many shards are later joined into
larger files.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import platform
import secrets
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from noisescale.errors import BadInput
from noisescale.noise_laws import NOISE_COLUMNS
from noisescale.runs import LATER_KEYS, RunResult, modern_record, pack_id_of
from noisescale.store.columns import check_schema, check_values
from noisescale.store.run_ids import check_run_ids
from noisescale.store.seal import Choose, DamagedFile, damaged_file, packs_in_footer, seal_table, unseal_table

SUFFIX = ".parquet"

# The prefix of the name of a file with the runs of several packs.
JOINED_PREFIX = "packs-"


def shard_path(folder: Path, pack_id: str) -> Path:
    """Return the path of a pack's shard. Its name is the pack's id, so the file names show which packs are finished."""
    return folder / f"{pack_id}{SUFFIX}"


def finished_packs(folder: Path) -> set[str]:
    """Return the ids of the packs with a shard in the folder."""
    return {pack for path in folder.glob(f"*{SUFFIX}") for pack in packs_of(path)}


def packs_of(path: Path) -> list[str]:
    """Return the ids of the packs in a file: its name, or the entry in its footer for a joined file.

    Args:
        path: The file.

    Returns:
        The ids.

    Raises:
        DamagedFile: The footer cannot be read.
    """
    if not path.name.startswith(JOINED_PREFIX):
        return [path.stem]
    return packs_in_footer(path)


def write_shard(folder: Path, pack_id: str, results: Sequence[RunResult], code: str = "") -> Path:
    """Write the results of one pack atomically.

    Args:
        folder: The subfolder of shards.
        pack_id: The id of the pack.
        results: The results of its runs.
        code: Digest of the user's code that trained it; empty if it trained no code of a user.

    Returns:
        The path of the shard.

    Raises:
        OSError: The folder cannot be written (a full disk). No partial shard is left.
    """
    table = pa.Table.from_pylist([{**_row(pack_id, result), "code": code} for result in results])
    path, data = shard_path(folder, pack_id), seal_table(table)
    write_atomically(path, lambda file: file.write(data), replace=False)
    return path


def write_atomically(path: Path, write: Callable[[BinaryIO], Any], replace: bool = True) -> None:
    """Write a file atomically: readers see either the old or the new contents, even if the writer is killed.

    Args:
        path: The file.
        write: Writes the contents to the open file.
        replace: False keeps an existing file, so that a worker that outlived its driver cannot change a finished shard.

    Raises:
        OSError: The file cannot be written. The temporary file is removed.
    """
    # Processes on different machines may have the same process id, so add random characters.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            _rename_to_new(temporary, path)
    except OSError as error:
        if error.filename is None:  # the error of a failed write has no file name
            error.filename = str(path)
        raise
    finally:
        # This may fail on a full disk. The next sweep in this folder removes the temporary file.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Let the names of new files survive a crash of the machine."""
    if os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Rename the temporary file, unless a file with the new name exists."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS):
            raise
        if not path.exists():  # a file system without hard links
            temporary.replace(path)


def read_shards(folder: Path, *, curves: bool = True) -> pa.Table | None:
    """Read all shards of a folder into one table with one row per run; curves and layers are nested columns.

    Args:
        folder: The subfolder of shards.
        curves: True reads all curves; False reads only their steps, epochs and factors of the rate.

    Returns:
        The table; None without shards.

    Raises:
        BadInput: A file is not a shard, is damaged, or was written by a newer version.
    """
    tables = _read_all(folder, all_columns if curves else _all_but_curves)
    if not tables:
        return None
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:  # columns beyond the checked ones have conflicting types
        raise BadInput(str(folder), "shards as a sweep wrote them, with the same types of columns", error) from None
    # A worker that outlived its driver may have trained a run twice.
    return _without_repeats(table)


def read_statuses(folder: Path) -> dict[str, str]:
    """Read the status of every finished run, without the libraries that tables of results need.

    Args:
        folder: The subfolder of shards.

    Returns:
        "completed" or "diverged", by run id.

    Raises:
        BadInput: A file is not a shard, is damaged, or was written by a newer version.
    """
    statuses: dict[str, str] = {}
    for table in _read_all(folder, _ids_and_statuses):
        statuses.update(zip(table["run_id"].to_pylist(), table["status"].to_pylist(), strict=True))
    return statuses


def data_of_shards(folder: Path) -> dict[float, set[str]]:
    """Return the digests of the data on which the runs of a folder trained, by the fraction of redrawn labels.

    Args:
        folder: The subfolder of shards. Damaged files are left out.

    Raises:
        BadInput: A newer version wrote a file.
    """
    digests: dict[float, set[str]] = {}
    for table in _read_all(folder, _data, damaged=False):
        for noise, digest in set(zip(table["label_noise"].to_pylist(), table["dataset_hash"].to_pylist(), strict=True)):
            digests.setdefault(noise, set()).add(digest)
    return digests


def _data(schema: pa.Schema) -> list[str]:
    return [*_ids_and_statuses(schema), "label_noise", "dataset_hash"]


def codes_of_shards(folder: Path) -> set[str]:
    """Return the digests of the user's code that trained the runs of a folder.

    Args:
        folder: The subfolder of shards. Damaged files are left out.

    Raises:
        BadInput: A newer version wrote a file.
    """
    return {code for table in _read_all(folder, _codes, damaged=False) for code in _texts(table, "code")} - {""}


def _codes(schema: pa.Schema) -> list[str]:
    return [*_ids_and_statuses(schema), *(["code"] if "code" in schema.names else [])]


def _texts(table: pa.Table, name: str) -> list[str]:
    return [str(value) for value in table[name].to_pylist()] if name in table.column_names else []


def _without_repeats(table: pa.Table) -> pa.Table:
    """Keep the first row of each run."""
    ids = table["run_id"].to_pylist()
    first = dict(zip(reversed(ids), range(len(ids) - 1, -1, -1), strict=True))
    return table if len(first) == len(ids) else table.take(sorted(first.values()))


def move_damaged_shards(folder: Path, aside: Path) -> list[str]:
    """Move every damaged shard to another folder, so that its runs are missing and train again.

    Args:
        folder: The subfolder of shards.
        aside: The folder of damaged shards. It is created if there is a damaged shard.

    Returns:
        The names of the moved files.

    Raises:
        OSError: A shard cannot be read or moved.
    """
    names = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            table = unseal_table(path.read_bytes(), str(path), all_columns, _check_runs)
            if set(packs_of(path)) != _packs_of_runs(table):
                raise damaged_file(str(path), "the name of a pack with other runs")
        except (DamagedFile, IsADirectoryError, FileNotFoundError):  # FileNotFoundError: a dangling link
            aside.mkdir(exist_ok=True)
            path.replace(aside / path.name)
            names.append(path.name)
    return names


def _packs_of_runs(table: pa.Table) -> set[str]:
    """Return the ids of the packs in a table, computed from the ids of their runs."""
    packs: dict[str, set[str]] = {}
    for pack_id, run_id in zip(table["pack_id"].to_pylist(), table["run_id"].to_pylist(), strict=True):
        packs.setdefault(pack_id, set()).add(run_id)
    return {pack_id_of(run_ids) for run_ids in packs.values()}


def _read_all(folder: Path, choose: Choose, *, damaged: bool = True) -> list[pa.Table]:
    """Read some columns of every file. `damaged` says whether a damaged file is an error or is left out."""
    while True:
        try:
            tables = []
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                try:
                    check = _check_runs if choose is _all_but_curves else check_values
                    table = unseal_table(path.read_bytes(), str(path), choose, check)
                except DamagedFile:
                    if damaged:
                        raise
                    continue
                tables.append(_with_all_keys(table, choose))
            return tables
        except FileNotFoundError as error:  # the driver has joined this shard since the listing
            if error.filename is not None and Path(error.filename).is_symlink():
                raise BadInput(str(error.filename), "a shard as a sweep wrote it", "a dangling link") from None
        except OSError as error:
            name = str(error.filename or folder)
            raise BadInput(name, "a shard as a sweep wrote it", error.strerror) from None


def _with_all_keys(table: pa.Table, choose: Choose) -> pa.Table:
    return table if choose in (_ids_and_statuses, _codes, _data) else with_later_keys(table)


def _check_runs(table: pa.Table) -> None:
    check_values(table)
    check_run_ids(with_later_keys(table))


def with_later_keys(table: pa.Table) -> pa.Table:
    """Add the keys that a table of an older version lacks, with the values that the older version used implicitly.

    Args:
        table: The table of a shard.

    Returns:
        The table with every key of this version.
    """
    if "optimizer" not in table.column_names and "decay" in table.column_names:
        decays = [modern_record({"decay": decay})["decay"] for decay in table["decay"].to_pylist()]
        table = table.set_column(table.column_names.index("decay"), "decay", pa.array(decays, pa.string()))
    for name, default in {**LATER_KEYS, "code": ""}.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array([default] * len(table)))
    return table


def all_columns(schema: pa.Schema) -> None:
    """Choose every column of a shard.

    Args:
        schema: The schema of the file.

    Raises:
        ValueError: The schema is not that of a shard.
    """
    check_schema(schema)


def _all_but_curves(schema: pa.Schema) -> list[str]:
    check_schema(schema)
    # Every run stores the steps of its evaluations, also if it evaluated no other quantity.
    return [name for name in schema.names if name != "curves"] + ["curves.step", "curves.epoch", "curves.rate_factor"]


def _ids_and_statuses(schema: pa.Schema) -> list[str]:
    check_schema(schema)
    return ["run_id", "status"]


@cache
def versions() -> str:
    """Return one line with the versions of Python and of the libraries on which a result depends."""
    names = ("noisescale", "torch", "numpy")
    return ", ".join([f"python {platform.python_version()}"] + [f"{name} {version(name)}" for name in names])


def _row(pack_id: str, result: RunResult) -> dict[str, Any]:
    return {
        **result.run.as_dict(),
        "run_id": result.run.run_id,
        "pack_id": pack_id,
        "status": result.status,
        "diverged_at_step": result.diverged_at_step,
        "collapsed": result.collapsed,
        **{f"chance_{name}": value for name, value in result.chance.items()},
        **result.late_means,
        **{f"drift_{name}": value for name, value in result.drifts.items()},
        **{f"final_{name}": value for name, value in result.final.items()},
        **result.averaged,
        "best_test_accuracy": result.best_test_accuracy,
        **{name: result.noise.get(name, math.nan) for name in NOISE_COLUMNS},
        "seconds": result.seconds,
        "device": result.device,
        "threads": result.threads,
        "kernel": result.kernel,
        "versions": versions(),
        "curves": result.curves,
        "layers": result.layers,
    }
