"""The pages of docs/verdicts say what the files say: which set decided, what changed since, whose the figures are."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from noisescale.claims import CLAIMS, Verdict, verify
from noisescale.report import write_verdicts
from noisescale.report.claims import row_names

ROOT = Path(__file__).resolve().parents[2]
Named = Callable[[str], ModuleType]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Named:
    # At the end: names of benchmarks must not come before those of libraries.
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    return importlib.import_module


@pytest.fixture
def planted(tmp_path: Path) -> Verdict:
    """The verdict of an experiment that takes a fifth of a second, with its file, figure and page in `tmp_path`."""
    found = verify("C2.2", scale="smoke", out=tmp_path)
    write_verdicts(found, tmp_path)
    return found[0][0]


def entry(name: str, p_value: float, outcome: str = "supported", convention: str = "mean over seeds") -> dict[str, Any]:
    return {
        "name": name, "value": 1.0, "low": 0.9, "high": 1.1, "convention": convention, "outcome": outcome,
        "criterion": "95 % interval above 0", "p_value": p_value,
    }  # fmt: skip


def kept(id: str, *statistics: dict[str, Any], first_seed: int = 3000, **beside: Any) -> dict[str, Any]:
    claim = CLAIMS[id]
    return {
        "id": id, "paper": claim.paper, "statement": claim.statement, "criterion": claim.criterion,
        "differs": claim.differs, "verdict": "supported", "scale": "laptop", "first_seed": first_seed, "seeds": 8,
        "statistics": list(statistics), "beside": [], **beside,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["statement", "criterion", "differs"])
def test_what_changed_since_a_verdict_is_found(benchmark: Named, name: str) -> None:
    changed = benchmark("kept_verdicts").changed
    for id in CLAIMS:
        assert changed(kept(id)) == []
        assert changed(kept(id) | {name: "another"}) == [name]
    at_gpu = kept("C1.3", scale="gpu") | {name: "another"}
    assert changed(at_gpu) == ([] if name == "differs" else [name])


def test_the_overview_marks_the_verdicts_that_are_not_of_the_code_and_no_others(benchmark: Named) -> None:
    rows = [line for line in benchmark("verdict_pages").overview().splitlines() if line.startswith("| [C")]
    assert len(rows) == len(CLAIMS)
    marked = {re.match(r"\| \[(C[\d.]+)\]", row)[1] for row in rows if "to be run again" in row}  # type: ignore[index]
    others = set()
    for path in (ROOT / "docs" / "verdicts").glob("C*.json"):
        own = json.loads(path.read_text())
        claim = CLAIMS[own["id"]]
        tested, now = ((one["statement"], one["criterion"], one["differs"]) for one in (own, vars(claim)))
        if path.stem in (claim.id, f"{claim.id}-second") and tested != now:
            others.add(claim.id)
    assert marked == others


def test_a_papers_verdicts_are_judged_together_from_their_files(benchmark: Named) -> None:
    found = benchmark("kept_verdicts").judged(
        [
            # Eight claims: 0.025/8 = 0.0031, 0.025/7 = 0.0036, 0.025/6 = 0.0042.
            kept("C3.1", entry("a", 1e-5), entry("b", 0.001)),
            kept("C3.2", entry("a", 0.0034)),
            kept("C3.3", entry("a", 0.0043)),
            kept("C3.4", entry("a", 0.0044)),
            kept("C3.5", entry("a", 1.0, "contradicted")),
        ]
    )
    words = {id: (one.word, one.alone) for id, one in found.items()}
    assert words == {
        "C3.1": ("supported", "supported"),
        "C3.2": ("supported", "inconclusive"),
        "C3.3": ("inconclusive", "inconclusive"),
        "C3.4": ("inconclusive", "inconclusive"),
        "C3.5": ("contradicted", "contradicted"),
    }
    assert [one.level for one in found.values()] == pytest.approx([0.025 / 8, 0.025 / 7, 0, 0, 0])
    assert {one.family for one in found.values()} == {8}


def test_a_figure_tells_whose_it_is(
    benchmark: Named, planted: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, pages = benchmark("kept_verdicts"), benchmark("verdict_pages")
    monkeypatch.setattr(module, "FIGURES", tmp_path)
    own = json.loads((tmp_path / "C2.2.json").read_text())
    assert (
        module.figure_said("C2.2") == module.title(own) == f"C2.2: supported (smoke scale, {own['seeds']} seeds from 0)"
    )
    assert len(pages._figure(own)) == 1
    for other in ({"verdict": "inconclusive"}, {"first_seed": 1000}, {"seeds": 99}, {"scale": "laptop"}):
        assert "of an earlier run or an earlier drawing" in pages._figure(own | other)[-1]
    assert pages._figure(own | {"id": "C2.3"}) == ["There is no figure of it."]


def test_rows_have_different_names_and_show_where_the_second_seeds_differ(benchmark: Named) -> None:
    twice = [entry("loss", 0.0, convention="at one rate"), entry("loss", 0.0, convention="at another"), entry("|a|", 0)]
    assert row_names(twice) == ["loss, at one rate", "loss, at another", "|a|"]
    first = kept("C3.3", *twice[1:], beside=twice[:1])
    second = kept("C3.3", twice[1] | {"outcome": "inconclusive"}, twice[2], beside=twice[:1])
    rows = [re.split(r" (?<!\\)\| ", row) for row in benchmark("verdict_pages")._table(first, second)[2:5]]
    assert [row[0] for row in rows] == ["| loss, at another", r"| \|a\|", "| loss, at one rate"]
    assert [row[2] for row in rows] == ["1 [0.9, 1.1], inconclusive", "1 [0.9, 1.1]", "1 [0.9, 1.1]"]
    assert {len(row) for row in rows} == {5}


def test_the_second_seeds_are_shown_where_another_comparison_decides_there(benchmark: Named) -> None:
    first = kept("C1.2", entry("at ¼", 0.0), beside=[entry("at ½", 0.0), entry("at ¼", 0.0)])
    second = kept("C1.2", entry("at ½", 0.0), beside=[entry("at ½", 0.0), entry("at ¼", 0.0)])
    rows = benchmark("verdict_pages")._table(first, second)[2:6]
    cells = [row.split(" | ") for row in rows]
    assert [(row[1][0], row[2][0], row[4]) for row in cells] == [
        ("1", "–", "supported |"), ("–", "1", "– |"), ("1", "1", "(supported) |"), ("1", "1", "(supported) |")
    ]  # fmt: skip


def test_verdicts_of_earlier_sets_are_not_written_over(benchmark: Named, monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("verdicts")
    earlier = [(number, True) for number in range(1, module.SETS[0])]
    for number, stops in [*earlier, *((own, False) for own in module.SETS)]:
        monkeypatch.setattr(module, "both", lambda id, number=number: (None, kept(id, first_seed=1000 * number)))
        if stops:
            with pytest.raises(SystemExit, match=f"seed sets {number}"):
                module.refuse_earlier()
        else:
            module.refuse_earlier()


def test_the_command_on_a_page_judges_the_claims_that_the_page_judged(planted: Verdict, tmp_path: Path) -> None:
    assert "noisescale verify C2.2 --scale smoke" in (tmp_path / "li2020.html").read_text()
    paper = [replace(planted, id=claim.id) for claim in CLAIMS.values() if claim.paper == "li2020"]
    write_verdicts([(verdict, None) for verdict in paper], tmp_path)
    assert "noisescale verify li2020 --scale smoke" in (tmp_path / "li2020.html").read_text()


def test_the_readme_says_whether_there_are_verdicts_of_a_gpu(benchmark: Named) -> None:
    said = benchmark("verdict_pages").at_gpu()
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert ("No verdict at `gpu` scale exists yet" in readme) == said.startswith("No verdict at `gpu` scale exists yet")
