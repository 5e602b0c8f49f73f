"""House rules that no linter knows: sizes, names, docstrings, no path of anybody's machine, versions that agree."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = sorted((REPOSITORY / "src" / "noisescale").rglob("*.py"))
MOST_LINES = 500

# A path that starts at the root of a disk, unlike the path of a web address or a path inside the repository.
MACHINE_PATH = re.compile(r"(?<![\w.:/~)\]}-])(?:/(?:home|Users|root|work|mnt|scratch)/\w|[A-Za-z]:\\Users\\\w)")


def repository_files() -> list[Path]:
    """List the files that are, or would be, committed; without git, all text files of the known folders."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout.decode()
        files = [REPOSITORY / name for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        folders = ("src", "tests", "examples", "benchmarks", "pages", "docs")
        files = [file for folder in folders for file in (REPOSITORY / folder).rglob("*")]
        files += list(REPOSITORY.glob("*"))
    return [file for file in files if file.is_file() and "__pycache__" not in file.parts]


def public_without_docstring(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """List (line, name) of the public classes and functions of a module that have no docstring.

    Methods are left to judgement: one that fills in a documented protocol has nothing to add.
    """
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            decorators = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
            if ast.get_docstring(node) is None and "overload" not in decorators:
                yield node.lineno, node.name


def test_no_source_file_is_longer_than_an_idea() -> None:
    lengths = {str(file.relative_to(REPOSITORY)): len(file.read_text("utf-8").splitlines()) for file in SOURCES}
    assert lengths, "no source found"
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_every_file_is_named_after_its_idea() -> None:
    leftovers = {"utils", "util", "helpers", "misc"}
    assert [file.name for file in SOURCES if file.stem.strip("_") in leftovers] == []


def test_everything_public_is_documented() -> None:
    missing = [
        f"{file.relative_to(REPOSITORY)}:{line}: {name}"
        for file in SOURCES
        for line, name in public_without_docstring(ast.parse(file.read_text("utf-8")))
    ]
    assert not missing, "without a docstring:\n" + "\n".join(missing)


def test_a_missing_docstring_is_seen() -> None:
    source = "class A:\n    def f(self): ...\ndef g():\n    'Documented.'\ndef h(): ...\ndef _i(): ...\n"
    assert list(public_without_docstring(ast.parse(source))) == [(1, "A"), (5, "h")]


def test_no_path_of_a_machine() -> None:
    matches = []
    for file in repository_files():
        try:
            text = file.read_text("utf-8")
        except UnicodeDecodeError:  # a picture
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if match := MACHINE_PATH.search(line):
                matches.append(f"{file.relative_to(REPOSITORY)}:{number}: {line[match.start() : match.start() + 40]}")
    assert not matches, "\n".join(matches)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("open('{}home/ada/data')", True),
        ("at {}Users/ada/x", True),
        ("https://example.org{}home/ada", False),
        ("src{}work/x", False),
    ],
)
def test_a_path_of_a_machine_is_seen(text: str, expected: bool) -> None:
    assert bool(MACHINE_PATH.search(text.format("/"))) is expected


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (REPOSITORY / "CITATION.cff").read_text("utf-8")
    assert f"\n## [{version}]" in (REPOSITORY / "CHANGELOG.md").read_text("utf-8")


EXTRAS = ("test", "bench", "adapters", "ray", "slurm", "optuna", "tensorboard", "mlflow", "peers")


def test_every_dependency_is_pinned_in_the_tested_constraints() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [
        *project["dependencies"],
        *(name for extra in EXTRAS for name in project["optional-dependencies"][extra]),
    ]
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", pin) for pin in pins), "one exact version a line, no build suffix"
    names = {re.split(r"[<>=!~\[ ;]", name)[0].lower() for name in asked}
    assert {name.replace("_", "-") for name in names} <= {pin.split("==")[0] for pin in pins}
