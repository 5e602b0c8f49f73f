"""Texts of somebody else reach the terminal on one short line with control characters escaped, or are refused.

They come from names of files, records, columns of results and exceptions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noisescale.cli import main
from noisescale.errors import BadInput, one_line, printable
from noisescale.store import Failure, seal
from noisescale.sweeps.plan import Plan

ESCAPES = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\u202eb", "a\rb", "a\x00b", "a\u2028b"]
NAMES = [*(text for text in ESCAPES if "\x00" not in text), "[bold]"]
# The longest text in a message, and room for the words around it.
LONGEST = 600 + 400
COMMANDS = {
    "status": ["status", "out"],
    "status --json": ["status", "out", "--json"],
    "fit": ["fit", "out"],
    "sweep": ["sweep", "spec.toml", "--out", "out", "--jobs", "1"],
    "recommend": ["recommend", "out", "--width", "4"],
    "export": ["export", "out", "--to", "csv", "--out", "exported"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_spec: str) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "spec.toml").write_text(small_spec)
    assert main(["sweep", str(folder / "spec.toml"), "--out", str(folder / "out"), "--jobs", "1"]) == 0
    return folder


@pytest.fixture
def out(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return Path("out")


@pytest.fixture
def printed(out: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Return a function that runs a command and returns its output, after checking every line of it."""

    def run(name: str) -> str:
        capsys.readouterr()
        assert main(COMMANDS[name]) in (0, 1, 2)
        captured = capsys.readouterr()
        for line in (captured.out + captured.err).split("\n"):
            assert line.isprintable() and len(line) <= LONGEST, line
        return captured.out + captured.err

    return run


def write_failure(out: Path, stem: str, error: str) -> None:
    pack = next(iter(Plan(out / "plan.jsonl").packs.values()))
    shutil.rmtree(out / "shards")
    (out / "shards").mkdir()
    (out / "failures" / f"{stem}.json").write_text(Failure(error, pack.runs).text())


@pytest.mark.parametrize("text", NAMES)
def test_the_name_of_a_record_is_escaped(text: str, out: Path, printed: Callable[[str], str]) -> None:
    write_failure(out, text, "an error")
    assert printable(text) in printed("status") and "an error" in printed("status --json")


@pytest.mark.parametrize("text", [*ESCAPES, "x" * 100_000, "\x1b" * 50_000, "a\n" * 10_000])
def test_the_error_in_a_record_is_escaped_and_bounded(text: str, out: Path, printed: Callable[[str], str]) -> None:
    write_failure(out, "0123456789abcdef", text)
    assert "0123456789abcdef" in printed("status")
    printed("sweep")


@pytest.mark.parametrize("name", ["status", "fit", "sweep", "export"])
@pytest.mark.parametrize("text", NAMES)
def test_the_name_of_a_shard_is_escaped(text: str, name: str, out: Path, printed: Callable[[str], str]) -> None:
    (out / "shards" / f"{text}.parquet").write_text("not a shard")
    assert printable(text) in printed(name)


@pytest.mark.parametrize("name", ["fit", "recommend", "export", "sweep"])
@pytest.mark.parametrize("column", ["versions", "family", "kernel", "layers", "another", "a dictionary", "name"])
def test_a_column_with_escapes_is_refused_or_moved(
    column: str, name: str, out: Path, printed: Callable[[str], str]
) -> None:
    path = next((out / "shards").glob("*.parquet"))
    path.write_bytes(seal.seal_table(with_escapes(pq.read_table(path), column)))
    text = printed(name)
    assert "moved to damaged/" in text if name == "sweep" else path.name in text


def with_escapes(table: pa.Table, column: str) -> pa.Table:
    count, text = len(table), "a\x1b[2Jb"
    if column == "name":
        return table.append_column(text, pa.array([1.0] * count))
    if column == "another":
        return table.append_column("another", pa.array([text] * count, pa.large_string()))
    if column == "a dictionary":
        return table.append_column("another", pa.array([text] * count).dictionary_encode())
    values: list[Any] = table[column].to_pylist()
    if column == "layers":
        values[0][0]["layer"] = text
    else:
        values[0] = text
    place = table.column_names.index(column)
    return table.set_column(place, column, pa.array(values, table.schema.field(column).type))


@pytest.mark.parametrize("text", ESCAPES)
@pytest.mark.parametrize("file", ["spec.json", "data.json", "model.json"])
def test_a_record_with_escapes_is_refused_by_name(
    file: str, text: str, out: Path, printed: Callable[[str], str]
) -> None:
    key = "error" if file == "model.json" else "name"
    values = json.loads((out / file).read_text())
    (out / file).write_text(json.dumps({**values, key: text}))
    if file == "spec.json":
        assert file in printed("fit")
    elif file == "model.json":
        assert file in printed("recommend")
    printed("sweep")


class Long(Exception):
    def __str__(self) -> str:
        return "\x1b[2J" + "x" * 10**6


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "error", [Long(), NoText(), ValueError("a\nb"), KeyError("\x1b"), BadInput("x" * 10**5, "y", Long())]
)
def test_the_text_of_an_exception_is_one_short_line(error: Exception) -> None:
    text = one_line(error)
    assert text.isprintable() and len(text) <= LONGEST and type(error).__name__ in text


def test_a_model_whose_error_is_long_and_steers_the_terminal(
    out: Path, printed: Callable[[str], str], user_module: Callable[[str], str]
) -> None:
    source = "def model(width, shape, classes):\n    raise ValueError('\\x1b[2J' * 10**5)\n"
    spec = Path("spec.toml").read_text().replace('family = "mlp"', f'family = "{user_module(source)}:model"')
    Path("spec.toml").write_text(spec)
    shutil.rmtree(out)
    assert r"ValueError: \x1b[2J" in printed("sweep")
    assert not out.exists()
