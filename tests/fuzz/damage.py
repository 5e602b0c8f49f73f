"""Hypothesis strategies that damage bytes, JSON values and files.

Positions are whole numbers, taken modulo the length, so that every draw is meaningful for any contents.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import strategies as st

POSITIONS = st.integers(0, 2**24)
JUNK = st.binary(max_size=12)
_DEEP = 50_000


@dataclass(frozen=True)
class Damage:
    """Damage to bytes.

    Args:
        kind: One of `BYTE_KINDS`.
        position: Where the damage is, modulo the length.
        data: Bytes to insert or to replace the contents with.
    """

    kind: str
    position: int
    data: bytes

    def apply(self, whole: bytes) -> bytes:
        at = self.position % max(len(whole), 1)
        match self.kind:
            case "cut":
                return whole[:at]
            case "flip" | "flips":
                flipped = bytearray(whole)
                for number in range(1 if self.kind == "flip" else 9):
                    if flipped:
                        flipped[(at + 7919 * number) % len(flipped)] ^= 1 << (self.position + number) % 8
                return bytes(flipped)
            case "insert":
                return whole[:at] + self.data + whole[at:]
            case "zeros":
                return whole[:at] + bytes(len(whole[at : at + 64])) + whole[at + 64 :]
            case "drop":
                return whole[:at] + whole[at + 1 + len(self.data) :]
            case "ones":  # makes declared sizes huge
                return whole[:at] + b"\xff" * len(whole[at : at + 4]) + whole[at + 4 :]
            case "twice":
                return whole + whole
            case "junk":
                return self.data
            case "deep":
                return b"[" * _DEEP
        return b""


BYTE_KINDS = ("cut", "flip", "flip", "flips", "insert", "zeros", "ones", "drop", "twice", "junk", "deep", "empty")
DAMAGES = st.builds(Damage, st.sampled_from(BYTE_KINDS), POSITIONS, JUNK)

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
    """Deletion, replacement or extension of a value in a JSON text, or in a line of a file of JSON lines.

    Args:
        kind: "delete", "add" or "set".
        position: Which value, modulo their number.
        value: The new value.
    """

    kind: str
    position: int
    value: Any

    def apply(self, whole: bytes) -> bytes:
        lines = whole.splitlines(keepends=True)
        try:
            json.loads(whole)
        except ValueError:
            if not lines:
                return whole
            line = self.position % len(lines)
            lines[line] = self._changed(lines[line]) + b"\n"
            return b"".join(lines)
        return self._changed(whole)

    def _changed(self, text: bytes) -> bytes:
        try:
            values = json.loads(text)
        except ValueError:
            return text
        root = [values]
        entries = list(_entries(root))
        container, key = entries[self.position % len(entries)]
        if self.kind == "delete" and container is not root:
            del container[key]
        elif self.kind == "add" and isinstance(container[key], dict):
            container[key][str(self.position)] = self.value
        elif self.kind == "add" and isinstance(container[key], list):
            container[key].append(self.value)
        else:
            container[key] = self.value
        return json.dumps(root[0]).encode()


def _entries(container: Any) -> Any:
    """Yield the container and key of every value inside a container."""
    pairs = container.items() if isinstance(container, dict) else enumerate(container)
    for key, value in pairs:
        yield container, key
        if isinstance(value, dict | list):
            yield from _entries(value)


JSON_DAMAGES = st.builds(JsonDamage, st.sampled_from(["delete", "add", "set", "set"]), POSITIONS, VALUES)


@dataclass(frozen=True)
class FileDamage:
    """Damage to a file: changed contents, or something else at its path.

    Args:
        target: The path of the file in the folder.
        kind: "contents", or the replacement: "missing", "folder", "loop" (a link to itself), "nowhere" (a dangling
            link) or "table" (an intact Parquet file that is not a shard).
        contents: Damage to the contents; None for a replacement.
    """

    target: str
    kind: str
    contents: Damage | JsonDamage | None = None

    def apply(self, folder: Path) -> None:
        path = folder / self.target
        if not path.parent.is_dir():  # its folder has been damaged
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            if self.kind != "missing":
                path.write_bytes(b"not a folder")
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
    """Draw damage to any of these files. For JSON files, half of the draws change JSON values."""

    def damages(target: str) -> st.SearchStrategy[FileDamage]:
        kinds = ["missing", "folder", "loop", "nowhere", *(["table"] if target.endswith(".parquet") else [])]
        replaced = st.builds(FileDamage, st.just(target), st.sampled_from(kinds))
        flipped = st.builds(FileDamage, st.just(target), st.just("contents"), DAMAGES)
        if not target.endswith((".json", ".jsonl")):
            return st.one_of(flipped, flipped, flipped, replaced)
        values = st.builds(FileDamage, st.just(target), st.just("contents"), JSON_DAMAGES)
        return st.one_of(values, values, flipped, replaced)

    return st.sampled_from(targets).flatmap(damages)
