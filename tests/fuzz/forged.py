"""Hypothesis strategies that forge parts of a study's folder: sealed files, links, pipes, names and texts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from damage import POSITIONS
from hypothesis import strategies as st

from noisescale.runs import Run
from noisescale.store.seal import seal_table

# Files of somebody else, beside the study's folder.
VICTIMS = ("victim.parquet", "victim.json", "victims/file")
# What a sweep, a report or a check writes in the folder of a study, and where.
WRITTEN = (
    "lock", "log.txt", "times.jsonl", "heartbeat.json", "unfinished", "plan.jsonl", "code.json", "spec.json",
    "data.json", "model.json", "check.json", "shards", "failures", "checkpoints", "kernels", "damaged", "report",
    "check", "slurm", "report/index.html", "report/report.json", "report/figures", "report/figures/optimum.svg",
    "check/lock", "check/shards", "checkpoints/x.pt", "checkpoints/x.alive", "kernels/x.json", "failures/x.json",
    "shards/x.parquet", "shards/.x.parquet.1.tmp", ".spec.json.1.tmp",
)  # fmt: skip
# Names of files, and names of packs, which are only written into footers.
FILE_NAMES = (" ", "a b", "\x1b]0;title\x07", "[bold]", "x" * 300, "é", "..x", "packs-x", "0" * 16)
PACK_NAMES = (*FILE_NAMES, "../../victim", "../victims/file", "/no-such-folder/victim", "", "..")
TEXTS = (
    "", "\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "x\r\ny", "\u202e", "x" * 5000, "../../victim", "<script>", "=1+1",
    "[/bold]", "nan", "mup", "adamw", "diverged", "failed", "stability", "price", "mse", "mnist1d", "{}", "own",
)  # fmt: skip
ODD: dict[str, tuple[Any, ...]] = {
    "int": (None, 0, 1, -1, 7, 2**31, 2**53, 2**62, -(2**63)),
    "float": (None, 0.0, -0.0, 0.5, 1.0, -1.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")),
    "text": (None, *TEXTS),
    "bool": (None, True, False),
    "list": (None, [], [None], [1.0], ["\x1b[2J"]),
    "struct": (None, {"step": 1.0}),
}


def check_place(path: Path) -> None:
    """Fail if a path leads out of the working folder, because a mistake here must not change the machine.

    Args:
        path: A path that a forgery is about to write.
    """
    is_inside = path.parent.resolve().is_relative_to(Path.cwd().resolve()) and path.name not in ("", "..")
    assert is_inside, f"{path} leads out of the working folder"


def write(path: Path, data: bytes) -> None:
    """Write a file of a study. Nothing is written through links.

    Args:
        path: The file.
        data: The contents.
    """
    check_place(path)
    if not path.is_symlink():
        path.write_bytes(data)


@dataclass(frozen=True)
class SealedValue:
    """A shard in which values of some columns are changed, sealed again.

    Args:
        file: Which shard, modulo their number.
        changes: Pairs of a column and of its new value, modulo their numbers.
        row: The row that changes; None for all rows.
        has_ids: True if the ids of the runs are those of the changed rows.
        kind: The type of the changed columns; None keeps it.
    """

    file: int
    changes: tuple[tuple[int, int], ...]
    row: int | None
    has_ids: bool
    kind: str | None

    def apply(self, folder: Path) -> None:
        path = _chosen_shard(folder, self.file)
        if path is None:
            return
        table, packs = pq.read_table(path), _packs(path)
        for column, value in self.changes:
            table = self._changed(table, column % table.num_columns, value)
        if self.has_ids and not {"run_id", "width"} - {*table.column_names}:
            table = _with_ids(table)
        write(path, seal_table(table, packs))

    def _changed(self, table: pa.Table, place: int, value: int) -> pa.Table:
        column = table.column(place)
        kind = self.kind or _kind(column.type)
        odd = ODD[kind][value % len(ODD[kind])]
        rows = [odd if self.row in (None, row) else old for row, old in enumerate(column.to_pylist())]
        try:
            array = pa.array(rows, None if self.kind else column.type)
        except (pa.ArrowException, TypeError, OverflowError):
            array = pa.array([str(entry) for entry in rows])
        if pa.types.is_struct(array.type) and not array.type.num_fields:  # Parquet has no such type
            array = pa.array([str(entry) for entry in rows])
        return table.set_column(place, table.column_names[place], array)


def _kind(kind: pa.DataType) -> str:
    for name, matches in (
        ("bool", pa.types.is_boolean), ("int", pa.types.is_integer), ("float", pa.types.is_floating),
        ("list", pa.types.is_list), ("struct", pa.types.is_struct),
    ):  # fmt: skip
        if matches(kind):
            return name
    return "text"


def _with_ids(table: pa.Table) -> pa.Table:
    ids = []
    for record in table.to_pylist():
        try:
            ids.append(Run.from_record(record).run_id)
        except (TypeError, ValueError, KeyError):
            ids.append(record["run_id"])
    return table.set_column(table.column_names.index("run_id"), "run_id", pa.array(ids, pa.string()))


@dataclass(frozen=True)
class Footer:
    """A sealed file of several packs whose footer names any packs.

    Args:
        file: The shard with its rows, modulo their number.
        packs: The names in the footer.
    """

    file: int
    packs: tuple[str, ...]

    def apply(self, folder: Path) -> None:
        if (path := _chosen_shard(folder, self.file)) is not None:
            forged = path.with_name("packs-0123456789abcdef.parquet")
            write(forged, seal_table(pq.read_table(path), self.packs))


@dataclass(frozen=True)
class SealedBytes:
    """A file with a valid seal that is not Parquet.

    Args:
        data: The bytes before the seal.
        name: The name of the file.
    """

    data: bytes
    name: str

    def apply(self, folder: Path) -> None:
        if (folder / "shards").is_dir() and not (folder / "shards").is_symlink():
            write(folder / "shards" / self.name, sealed_bytes(self.data))


def sealed_bytes(data: bytes) -> bytes:
    """Return bytes that end with a seal like that of a shard, though they are not Parquet.

    Args:
        data: The bytes before the seal.
    """
    begin, end = data + b"noisescale.format\x00\x011noisescale.sha256\x40\x00", b"PAR1"
    digest = hashlib.sha256(begin + b"0" * 64 + end).hexdigest().encode()
    return begin + digest + end


@dataclass(frozen=True)
class Special:
    """A link, a pipe or a socket in the place of a file or folder that a command writes.

    Args:
        place: The path in the folder.
        kind: "link", "folder link", "hard link", "pipe", "socket" or "device" (a link to one).
    """

    place: str
    kind: str

    def apply(self, folder: Path) -> None:
        path = folder / self.place
        if path.parent.is_symlink() or path.parent.parent.is_symlink():  # an earlier forgery is in the way
            return
        check_place(path)
        try:
            path.parent.mkdir(exist_ok=True)
            if path.is_dir() and not path.is_symlink():
                path.rename(path.with_name(f"was-{path.name}"))
            path.unlink(missing_ok=True)
        except OSError:  # an earlier forgery is in the way
            return
        make_special(path, self.kind)


def make_special(path: Path, kind: str) -> None:
    """Make a link to a victim, a pipe, a socket or a link to a device. The victims are in the working folder.

    Args:
        path: The path.
        kind: As `Special` has it.
    """
    if kind == "link":
        path.symlink_to(Path(VICTIMS[1]).absolute())
    elif kind == "folder link":
        path.symlink_to(Path("victims").absolute())
    elif kind == "hard link":
        os.link(VICTIMS[2], path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            before = Path.cwd()
            os.chdir(path.parent)  # the path of a socket has at most a hundred characters
            try:
                listener.bind(path.name)
            finally:
                os.chdir(before)


@dataclass(frozen=True)
class NamedFile:
    """A copy of a file of the study under any name.

    Args:
        folder: The subfolder.
        name: The name.
        ending: Its end.
    """

    folder: str
    name: str
    ending: str

    def apply(self, folder: Path) -> None:
        place = folder / self.folder
        files = sorted(path for path in place.glob("*") if path.is_file() and not path.is_symlink())
        if files and not place.is_symlink():
            with contextlib.suppress(OSError):  # the name is too long
                write(place / f"{self.name}{self.ending}", files[0].read_bytes())


@dataclass(frozen=True)
class Text:
    """A text in a record that commands print.

    Args:
        file: The file: "failures", "spec.json", "log.txt", "lock", "times.jsonl", "data.json" or "code.json".
        text: The text.
    """

    file: str
    text: str

    def apply(self, folder: Path) -> None:
        paths = sorted((folder / "failures").glob("*.json")) if self.file == "failures" else [folder / self.file]
        for path in paths:
            if path.is_file() and not path.is_symlink():
                write(path, self._changed(path.read_text(encoding="utf-8")).encode("utf-8", "surrogatepass"))

    def _changed(self, contents: str) -> str:
        try:
            values = json.loads(contents)
        except ValueError:
            return contents + self.text
        if not isinstance(values, dict):
            return contents
        key = {"failures": "error", "spec.json": "name"}.get(self.file, "name")
        return json.dumps({**values, key: self.text})


def _chosen_shard(folder: Path, number: int) -> Path | None:
    if (folder / "shards").is_symlink():
        return None
    paths = sorted(path for path in (folder / "shards").glob("*.parquet") if path.is_file() and not path.is_symlink())
    for path in paths[number % len(paths) :] if paths else []:
        try:
            pq.read_schema(path)
        except (pa.ArrowException, OSError):
            continue
        return path
    return None


def _packs(path: Path) -> list[str]:
    metadata = pq.read_metadata(path).metadata or {}
    return metadata.get(b"noisescale.packs", b"").decode().split()


SEALED_VALUES = st.builds(
    SealedValue,
    st.integers(0, 1),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=2).map(tuple),
    st.sampled_from([None, 0, 1]),
    st.booleans(),
    st.sampled_from([None, None, None, None, *ODD]),
)
FOOTERS = st.builds(Footer, st.integers(0, 1), st.lists(st.sampled_from(PACK_NAMES), min_size=1, max_size=3).map(tuple))
SEALED_BYTES = st.builds(
    SealedBytes, st.binary(max_size=40), st.sampled_from(["x.parquet", "packs-x.parquet", "0" * 16 + ".parquet"])
)
SPECIALS = st.builds(
    Special, st.sampled_from(WRITTEN),
    st.sampled_from(["link", "link", "folder link", "hard link", "pipe", "socket", "device"]),
)  # fmt: skip
NAMED_FILES = st.builds(
    NamedFile, st.sampled_from(["shards", "failures", "kernels", "checkpoints", ""]), st.sampled_from(FILE_NAMES),
    st.sampled_from([".parquet", ".json", ".pt", ".alive", ""]),
)  # fmt: skip
TEXT_FILES = st.sampled_from(["failures", "spec.json", "log.txt", "lock", "times.jsonl", "data.json", "code.json"])
FORGED_TEXTS = st.builds(
    Text, TEXT_FILES, st.sampled_from(TEXTS) | st.builds("x".__mul__, POSITIONS.map(lambda n: n % 20_000))
)
FORGERIES = st.one_of(
    SEALED_VALUES, SEALED_VALUES, SEALED_VALUES, FOOTERS, SEALED_BYTES, SPECIALS, SPECIALS, NAMED_FILES, FORGED_TEXTS
)
