"""Names, files and figures of others execute nothing, no process listens, and no file is written outside the folder."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from noisescale.claims import CLAIMS, Verdict
from noisescale.cli import main
from noisescale.report import write_verdict_pages
from noisescale.runs import pack_id
from noisescale.store import Study
from noisescale.sweeps.plan import Plan

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "noisescale"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give each test a working folder in an empty folder, and check that nothing is written beside it."""
    folder = tmp_path / "inner"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    yield folder
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


Sweep = Callable[..., int]


@pytest.fixture
def sweep(small_spec: str) -> Sweep:
    """Return a function that writes a small spec with this name and runs its sweep."""

    def run(name: str, *options: str) -> int:
        Path("spec.toml").write_text(small_spec.replace('"small"', json.dumps(name)), encoding="utf-8")
        return main(["sweep", "spec.toml", "--out", "out", "--jobs", "1", *options])

    return run


# --- names


class Page(HTMLParser):
    """The active elements of a page: scripts, embedded content and event handlers.

    Args:
        text: The HTML of the page.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed"):
            self.scripts.append(dict(attrs))
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.handlers += [value for _, value in attrs if value and value.strip().lower().startswith("javascript:")]


@pytest.mark.parametrize("name", [SCRIPT, "</script><script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>"])
def test_a_name_executes_nothing_in_the_report(name: str, sweep: Sweep) -> None:
    assert sweep(name) == 0
    assert main(["report", "out"]) == 0
    text = Path("out/report/index.html").read_text("utf-8")
    page = Page(text)
    # This element holds data for other programs, which browsers do not execute.
    assert page.scripts == [{"type": "application/json", "id": "report-data"}]
    assert page.handlers == []
    assert "alert(1)" in text and "<script>alert" not in text
    assert json.loads(Path("out/report/report.json").read_text("utf-8"))["name"] == name


def test_a_name_executes_nothing_on_a_page_of_verdicts(working_folder: Path) -> None:
    claim = next(iter(CLAIMS.values()))
    statistic = {
        "name": SCRIPT, "value": 1.0, "low": 0.0, "high": 2.0, "convention": SCRIPT, "criterion": SCRIPT,
        "outcome": SCRIPT,
    }  # fmt: skip
    verdict = Verdict(
        id=claim.id, paper=claim.paper, statement=SCRIPT, criterion=SCRIPT, source=SCRIPT, differs=SCRIPT,
        verdict="supported", statistics=(statistic,), scale="smoke", first_seed=0, seeds=1, runs=1, setting=SCRIPT,
        reported={SCRIPT: 1.0}, beside=(statistic,), level=0.025, criterion_commit=SCRIPT, versions=SCRIPT,
        seconds=1.0, note=SCRIPT,
    )  # fmt: skip
    (path,) = write_verdict_pages([(verdict, None)], working_folder)
    page = Page(path.read_text("utf-8"))
    assert (page.scripts, page.handlers) == ([], [])
    assert "&lt;script&gt;" in path.read_text("utf-8")


# The names below that could break the figures or paths of a report. A report takes seconds.
DRAWN = ("../../x", "[/bold]", "$\\frac$")


@pytest.mark.parametrize("name", ["../../x", "/x", "..", "~/x", "a/b", "[/bold]", "$\\frac$", "%s{0}{name}"])
def test_a_name_is_not_a_path_or_markup(name: str, sweep: Sweep) -> None:
    assert sweep(name) == 0
    for command in (["fit", "out"], ["export", "out", "--to", "csv", "--out", "exported"]):
        assert main(command) == 0
    if name in DRAWN:
        assert main(["report", "out"]) == 0
    assert Study.open("out").spec["name"] == name
    assert sorted(path.name for path in Path().iterdir()) == ["exported", "out", "spec.toml"]


@pytest.mark.parametrize("name", ["\u0000", "a\x1b[2J", "a\x9b31m", "a\u202eb"])
def test_a_name_with_control_characters_is_refused(name: str, sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(name) == 2
    assert capsys.readouterr().err.rstrip("\n").isprintable() and not Path("out").exists()


@pytest.mark.parametrize("out", ["exported", "deep/exported"])
def test_an_export_leaves_nothing_beside_its_path(out: str, sweep: Sweep) -> None:
    assert sweep("plain") == 0
    assert main(["export", "out", "--to", "parquet", "--out", out]) == 0
    assert sorted(path.name for path in Path(out).iterdir()) == ["curves.parquet", "layers.parquet", "runs.parquet"]
    assert sorted(path.name for path in Path(out).parent.iterdir()) in (["exported"], ["exported", "out", "spec.toml"])


@pytest.mark.parametrize("value", ["__import__('os').mkdir('made')", "{{ 7*7 }}", "$(mkdir made)", "`mkdir made`"])
@pytest.mark.parametrize("key", ["name", "model.activation", "model.family", "grid.schedule", "dataset.name"])
def test_a_string_in_a_spec_is_not_evaluated(key: str, value: str, sweep: Sweep) -> None:
    assert sweep("plain", "--dry-run", "--set", f"{key}={json.dumps(value)}") == (0 if key == "name" else 2)
    assert not Path("made").exists()


# --- files


class Executes:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, ("made",)


def test_a_checkpoint_that_would_execute_code_is_discarded(sweep: Sweep) -> None:
    assert sweep("plain") == 0
    expected = Study.open("out").finished().set_index("run_id").test_loss
    packs = Plan(Path("out/plan.jsonl")).packs.values()
    Path("out/checkpoints").mkdir()
    for pack in packs:
        assert pack_id(list(pack.runs)) == pack.pack_id
        (Path("out/checkpoints") / f"{pack.pack_id}.pt").write_bytes(pickle.dumps(Executes()))
        (Path("out/shards") / f"{pack.pack_id}.parquet").unlink()
    assert sweep("plain") == 0
    assert Study.open("out").finished().set_index("run_id").test_loss.to_dict() == expected.to_dict()
    assert not Path("made").exists() and not Path("out/checkpoints").exists()


def test_weights_that_would_execute_code_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("weights.pt").write_bytes(pickle.dumps({"0.weight": Executes()}))
    Path("loads_weights.py").write_text("from torch import nn\nmodel = nn.Sequential(nn.Linear(64, 10))\n")
    command = ["measure", "loads_weights:model", "--data", "digits", "--checkpoint", "weights.pt"]
    assert main(command) == 2
    assert "weights.pt" in capsys.readouterr().err and not Path("made").exists()
    del sys.modules["loads_weights"]


# --- network


def listening(process: int) -> set[str]:
    """Return the local addresses at which a process listens, over TCP or UDP."""
    addresses = set()
    inodes = set()
    for link in Path(f"/proc/{process}/fd").iterdir():
        try:
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
        except OSError:  # the file has been closed
            continue
        if match:
            inodes.add(match[1])
    for kind, states in (("tcp", {"0A"}), ("tcp6", {"0A"}), ("udp", {"07"}), ("udp6", {"07"})):
        table = Path(f"/proc/{process}/net/{kind}")
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            columns = line.split()
            if columns[3] in states and columns[9] in inodes:
                addresses.add(f"{kind} {columns[1]}")
    return addresses


def needs_proc() -> None:
    if not Path("/proc/self/net/tcp").exists():
        pytest.skip("sockets are found through /proc, which this system does not have")


def test_a_listener_is_detected() -> None:
    import socket

    needs_proc()
    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening(os.getpid())) >= 1


@pytest.mark.full
def test_a_sweep_listens_nowhere(small_spec: str, processes_below: Callable[[int], set[int]]) -> None:
    """Neither the driver nor any of its descendants listens."""
    needs_proc()
    Path("spec.toml").write_text(small_spec, encoding="utf-8")
    # Every worker first imports torch, which takes seconds, so that the test can look at it.
    command = [sys.executable, "-m", "noisescale", "sweep", "spec.toml", "--out", "out", "--jobs", "2",
               "--set", "training.steps=4000", "--set", "grid.batch_size=[5, 10, 20]"]  # fmt: skip
    addresses: set[str] = set()
    seen: set[int] = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as driver:
        while driver.poll() is None:
            for process in processes_below(driver.pid):
                try:
                    addresses |= listening(process)
                except OSError:  # the process has ended
                    continue
                seen.add(process)
            time.sleep(0.1)
    assert driver.returncode == 0
    assert len(seen) >= 3, "the driver and two workers at least"
    assert addresses == set()


# --- the source

FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads",
    "pickle.Unpickler", "marshal.loads", "marshal.load", "shelve.open", "yaml.load", "yaml.unsafe_load",
    "numpy.fromfile", "joblib.load", "dill.loads", "dill.load", "tarfile.extractall", "pandas.read_pickle",
    "pd.read_pickle", "torch.jit.load", "torch.hub.load", "subprocess.getoutput", "tempfile.mktemp",
}  # fmt: skip
# Forbidden names of methods of any object.
FORBIDDEN_METHODS = {"extractall", "extract"}
LISTENS = {"socket", "socketserver", "http.server", "xmlrpc", "asyncio", "aiohttp", "flask", "fastapi", "uvicorn"}


def violations(source: str) -> list[str]:
    """List the forbidden calls and imports of a module, each with its line."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name, keywords = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            unsafe = name in FORBIDDEN or name.rpartition(".")[2] in FORBIDDEN_METHODS
            unsafe |= name == "torch.load" and keywords.get("weights_only") != "True"
            unsafe |= name.endswith(".load") and keywords.get("allow_pickle", "False") != "False"
            unsafe |= keywords.get("shell", "False") != "False"
            if unsafe:
                lines.append(f"{node.lineno}: {name}")
        elif isinstance(node, ast.Import):
            lines += [f"{node.lineno}: {alias.name}" for alias in node.names if alias.name in LISTENS]
        elif isinstance(node, ast.ImportFrom) and node.module in LISTENS | {"pickle", "marshal", "shelve"}:
            names = {alias.name for alias in node.names}
            if node.module != "socket" or names - {"create_connection"}:  # which connects and never listens
                lines.append(f"{node.lineno}: {node.module}")
    return lines


def test_no_source_executes_strings_or_files() -> None:
    by_file = {str(file.relative_to(PACKAGE)): violations(file.read_text("utf-8")) for file in PACKAGE.rglob("*.py")}
    assert {name: lines for name, lines in by_file.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("eval(text)", 1),
        ("model.eval()", 0),
        ("torch.load(path)", 1),
        ("torch.load(path, weights_only=False)", 1),
        ("torch.load(path, weights_only=True)", 0),
        ("np.load(path, allow_pickle=True)", 1),
        ("np.load(path, allow_pickle=False)", 0),
        ("subprocess.run(text, shell=True)", 1),
        ("subprocess.run([name])", 0),
        ("from pickle import loads", 1),
        ("archive.extractall(folder)", 1),
        ("import socket", 1),
        ("from socket import create_server", 1),
        ("from socket import create_connection", 0),
        ("torch.compile(step)", 0),
        ("re.compile(text)", 0),
    ],
)
def test_a_violation_is_detected(source: str, expected: int) -> None:
    assert len(violations(source)) == expected


def test_pages_disable_escaping_only_for_figures_and_data() -> None:
    safe = [
        match for file in PACKAGE.rglob("*.jinja") for match in re.findall(r"\{\{([^}]*)\|\s*safe", file.read_text())
    ]
    assert sorted({expression.strip() for expression in safe}) == ["claim.svg", "data", "figure.svg"]
