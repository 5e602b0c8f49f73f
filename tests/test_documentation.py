"""The README stays short, the examples of README and docs run, and every link in them leads somewhere."""

from __future__ import annotations

import math
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from noisescale.sweeps import SweepSpec, sweep

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS, *sorted((ROOT / "benchmarks").rglob("*.md"))]
MAX_WORDS = 700
EXAMPLES = ROOT / "examples"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """List the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", link):
            yield link


def with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Complete a part of a spec, since a page shows only the keys that it explains."""
    spec: dict[str, Any] = {
        "name": "mine", "seeds": 2, "dataset": {"name": "mnist1d"}, "model": {"family": "mlp"},
        "grid": {"width": [8], "learning_rate": [1.0], "batch_size": [8]}, "training": {"steps": 10},
    }  # fmt: skip
    for key, value in values.items():
        spec[key] = {**spec.get(key, {}), **value} if isinstance(value, dict) else value
    return spec


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps train in this process, which has imported torch already."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


def test_the_readme_fits_on_one_screen() -> None:
    assert len(README.read_text("utf-8").split()) <= MAX_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_make_target_of_a_page_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    named = {
        (page.name, target) for page in PAGES for target in re.findall(r"`make ([a-z-]+)", page.read_text("utf-8"))
    }
    assert named
    assert {(page, target) for page, target in named if target not in targets} == set()


@pytest.mark.parametrize("page", [page for page in DOCS if blocks(page, "toml")], ids=lambda page: page.name)
def test_specs_on_a_page_are_valid(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    for block in blocks(page, "toml"):
        SweepSpec.from_dict(with_defaults(tomllib.loads(block)))


def test_the_example_of_the_readme_runs(
    one_core: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = blocks(README, "python")
    for stated, smaller in (
        ('"seeds": 8', '"seeds": 3'),
        ('"steps": 2000', '"steps": 40'),
        ("[16, 32, 64, 128]", "[4, 8]"),
    ):
        assert block.count(stated) == 1
        block = block.replace(stated, smaller)
    script = tmp_path / "my_model.py"
    script.write_text(block, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    scope = runpy.run_path(str(script), run_name="__main__")
    assert "learning rate" in capsys.readouterr().out
    assert scope["recommendation"].warnings
    assert {id(p) for group in scope["optimizer"].param_groups for p in group["params"]} == {
        id(p) for p in scope["groups"].model.parameters()
    }


@pytest.mark.full
def test_the_example_of_the_readme_runs_unchanged(tmp_path: Path) -> None:
    (block,) = blocks(README, "python")
    (tmp_path / "my_model.py").write_text(block, encoding="utf-8")
    done = subprocess.run([sys.executable, "my_model.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "learning rate" in done.stdout
    assert "no law over widths" in done.stdout and "no interval is known" in done.stdout


def test_the_example_with_a_users_own_model_runs(
    one_core: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs" / "own-model.md"
    (spec,), (loss, script) = blocks(page, "toml"), blocks(page, "python")
    assert tomllib.loads(spec) == tomllib.loads((EXAMPLES / "own_model.toml").read_text("utf-8"))
    (tmp_path / "examples").mkdir()
    monkeypatch.chdir(tmp_path / "examples")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    small = ("seeds=3", "training.steps=40", "grid.width=[4, 8]", "stability.seeds=0")
    sweep(SweepSpec.from_toml(EXAMPLES / "own_model.toml", small), "../runs/own_model", quiet=True)
    scope: dict[str, Any] = {}
    exec(loss, scope)
    assert scope["huber"](torch.zeros(3, 2), torch.ones(3, 2)).tolist() == [0.5] * 3
    exec(script, scope)
    assert scope["optimizer"].param_groups[0]["lr"] > 0
    assert abs(scope["inputs"].mean()) < 1e-5
    assert abs(scope["inputs"].std(correction=0) - 1) < 1e-5


def test_the_example_with_a_text_runs(
    one_core: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs" / "text.md"
    (spec,), (script,) = blocks(page, "toml"), blocks(page, "python")
    monkeypatch.chdir(tmp_path)
    Path("my.txt").write_text("to be, or not to be: that is the question\n" * 200, encoding="utf-8")
    Path("my-text.toml").write_text(spec, encoding="utf-8")
    small = (
        "seeds=2", "training.steps=20", "grid.width=[4, 8]", "grid.learning_rate=[0.01, 0.03]", "grid.batch_size=[8]",
        "dataset.test_size=20", "fit.extend_edges=false",
    )  # fmt: skip
    sweep(SweepSpec.from_toml(Path("my-text.toml"), small), "runs/my-text", quiet=True)
    capsys.readouterr()
    exec(script, scope := {"__name__": "example"})
    reached, runs = capsys.readouterr().out.splitlines()
    assert 0 < float(reached.split()[-1]) < math.log(256)
    expected = scope["recommendation"].expected_metric
    assert runs.endswith(f"{expected.run_low} to {expected.run_high}")
