"""Ways in which bytes, JSON values and files go wrong, as hypothesis draws them.

Places are drawn as whole numbers and taken modulo the length, so that a draw means something for any contents.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import strategies as st

PLACES = st.integers(0, 2**24)
JUNK = st.binary(max_size=12)
_DEEP = 50_000


@dataclass(frozen=True)
class Damage:
    """One way in which bytes went wrong.

    Arguments:
        kind: cut, flip, flips, empty, junk, insert, zeros, drop, twice, replaced or deep. place: where. data: junk.
    """

    kind: str
    place: int
    data: bytes

    def apply(self, whole: bytes) -> bytes:
        at = self.place % max(len(whole), 1)
        match self.kind:
            case "cut":
                return whole[:at]
            case "flip" | "flips":
                flipped = bytearray(whole)
                for number in range(1 if self.kind == "flip" else 9):
                    if flipped:
                        flipped[(at + 7919 * number) % len(flipped)] ^= 1 << (self.place + number) % 8
                return bytes(flipped)
            case "insert":
                return whole[:at] + self.data + whole[at:]
            case "zeros":
                return whole[:at] + bytes(len(whole[at : at + 64])) + whole[at + 64 :]
            case "drop":
                return whole[:at] + whole[at + 1 + len(self.data) :]
            case "ones":  # declared sizes become huge
                return whole[:at] + b"\xff" * len(whole[at : at + 4]) + whole[at + 4 :]
            case "twice":
                return whole + whole
            case "junk":
                return self.data
            case "deep":
                return b"[" * _DEEP
        return b""


BYTE_KINDS = ("cut", "flip", "flip", "flips", "insert", "zeros", "ones", "drop", "twice", "junk", "deep", "empty")
DAMAGES = st.builds(Damage, st.sampled_from(BYTE_KINDS), PLACES, JUNK)

TEXTS = ["", "x", "../../x", "/", "nan", "-1", "a" * 300, "\u0000", "<script>", "[/b]", "$x$", "ntk", "completed"]
SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.floats(), st.sampled_from([2**31, 2**64, 10**400, 1e308, -0.0]),
    st.sampled_from(TEXTS), st.text(max_size=4),
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@dataclass(frozen=True)
class JsonDamage:
    """One value inside a JSON text that is deleted, replaced or added to; of JSON lines, in one of the lines."""

    kind: str
    place: int
    value: Any

    def apply(self, whole: bytes) -> bytes:
        lines = whole.splitlines(keepends=True)
        try:
            json.loads(whole)
        except ValueError:
            if not lines:
                return whole
            line = self.place % len(lines)
            lines[line] = self._changed(lines[line]) + b"\n"
            return b"".join(lines)
        return self._changed(whole)

    def _changed(self, text: bytes) -> bytes:
        try:
            values = json.loads(text)
        except ValueError:
            return text
        holder = [values]
        places = list(_entries(holder))
        inside, key = places[self.place % len(places)]
        if self.kind == "delete" and inside is not holder:
            del inside[key]
        elif self.kind == "add" and isinstance(inside[key], dict):
            inside[key][str(self.place)] = self.value
        elif self.kind == "add" and isinstance(inside[key], list):
            inside[key].append(self.value)
        else:
            inside[key] = self.value
        return json.dumps(holder[0]).encode()


def _entries(value: Any) -> Any:
    """(container, key) of every value below."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, own in pairs:
        yield value, key
        if isinstance(own, dict | list):
            yield from _entries(own)


JSON_DAMAGES = st.builds(JsonDamage, st.sampled_from(["delete", "add", "set", "set"]), PLACES, VALUES)


@dataclass(frozen=True)
class FileDamage:
    """What becomes of a file: other contents, or another thing in its place.

    Arguments:
        target: among the files of the folder. contents: None where the file is replaced as `kind` says: missing,
            folder, loop (a link to itself), nowhere (a link to nothing) or table (another Parquet file, that is whole).
    """

    target: str
    kind: str
    contents: Damage | JsonDamage | None = None

    def apply(self, folder: Path) -> None:
        path = folder / self.target
        if not path.parent.is_dir():  # its folder was damaged before it
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            if self.kind != "missing":
                path.write_bytes(b"no folder")
            return
        if self.contents is not None:
            if path.is_file():
                path.write_bytes(self.contents.apply(path.read_bytes()))
            return
        path.unlink(missing_ok=True)
        if self.kind == "folder":
            path.mkdir()
        elif self.kind == "loop":
            path.symlink_to(path.name)
        elif self.kind == "nowhere":
            path.symlink_to("nothing-there")
        elif self.kind == "table":
            pd.DataFrame({"run_id": ["a", "b"], "width": [1, 2]}).to_parquet(path)


def file_damages(targets: list[str]) -> st.SearchStrategy[FileDamage]:
    """Something that happens to one of these files; JSON files are damaged as JSON half of the time."""

    def of(target: str) -> st.SearchStrategy[FileDamage]:
        kinds = ["missing", "folder", "loop", "nowhere", *(["table"] if target.endswith(".parquet") else [])]
        gone = st.builds(FileDamage, st.just(target), st.sampled_from(kinds))
        flipped = st.builds(FileDamage, st.just(target), st.just("contents"), DAMAGES)
        if not target.endswith((".json", ".jsonl")):
            return st.one_of(flipped, flipped, flipped, gone)
        values = st.builds(FileDamage, st.just(target), st.just("contents"), JSON_DAMAGES)
        return st.one_of(values, values, flipped, gone)

    return st.sampled_from(targets).flatmap(of)
