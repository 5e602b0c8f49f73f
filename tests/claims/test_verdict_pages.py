"""The verdict pages agree with the stored verdicts about deciding sets, later changes and figures."""

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

from noisescale.claims import CLAIMS, PAPERS, Verdict, verify
from noisescale.report import row_names, write_verdict_pages

ROOT = Path(__file__).resolve().parents[2]
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    # The folders are at the end of the path, so that their modules do not hide modules of libraries.
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "pages"), str(ROOT / "benchmarks")])
    return importlib.import_module


@pytest.fixture
def planted(tmp_path: Path) -> Verdict:
    """Verify a claim that takes a fifth of a second, with its file, figure and page in `tmp_path`."""
    verified = verify("C2.2", scale="smoke", out=tmp_path)
    write_verdict_pages(verified, tmp_path)
    return verified[0][0]


def statistic(
    name: str, p_value: float, outcome: str = "supported", convention: str = "mean over seeds"
) -> dict[str, Any]:
    return {
        "name": name, "value": 1.0, "low": 0.9, "high": 1.1, "convention": convention, "outcome": outcome,
        "criterion": "95 % interval above 0", "p_value": p_value,
    }  # fmt: skip


def stored_verdict(
    claim_id: str, *statistics: dict[str, Any], first_seed: int = 3000, **entries: Any
) -> dict[str, Any]:
    claim = CLAIMS[claim_id]
    return {
        "id": claim_id, "paper": claim.paper, "statement": claim.statement, "criterion": claim.criterion,
        "differs": claim.differs, "verdict": "supported", "scale": "laptop", "first_seed": first_seed, "seeds": 8,
        "statistics": list(statistics), "beside": [], **entries,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["statement", "criterion", "differs"])
def test_a_change_of_the_claim_since_its_verdict_is_detected(load: Load, name: str) -> None:
    changed = load("stored_verdicts").changed
    for claim_id in CLAIMS:
        assert changed(stored_verdict(claim_id)) == []
        assert changed(stored_verdict(claim_id) | {name: "another"}) == [name]
    at_gpu = stored_verdict("C1.3", scale="gpu") | {name: "another"}
    assert changed(at_gpu) == ([] if name == "differs" else [name])


def test_the_overview_marks_exactly_the_verdicts_whose_claim_has_changed(load: Load) -> None:
    rows = [line for line in load("verdict_overview").overview().splitlines() if line.startswith("| [C")]
    assert len(rows) == len(CLAIMS)
    marked = {re.match(r"\| \[(C[\d.]+)\]", row)[1] for row in rows if "to be run again" in row}  # type: ignore[index]
    changed = set()
    for path in (ROOT / "docs" / "verdicts").glob("C*.json"):
        verdict = json.loads(path.read_text())
        claim = vars(CLAIMS[verdict["id"]])
        if any(verdict[name] != claim[name] for name in ("statement", "criterion", "differs")):
            changed.add(verdict["id"])
    assert marked == changed


def test_the_committed_pages_are_those_of_the_stored_verdicts(load: Load) -> None:
    assert (ROOT / "docs" / "verdicts.md").read_text("utf-8") == load("verdict_overview").overview()
    for paper in PAPERS:
        page = (ROOT / "docs" / "verdicts" / f"{paper}.md").read_text("utf-8")
        assert page == load("verdict_paper").paper_page(paper)


def test_the_verdicts_of_a_paper_are_judged_together_from_their_files(load: Load) -> None:
    claims = sum(claim.paper == "smith2020" for claim in CLAIMS.values())
    # Holm's levels for the smallest, the second and the third p-value.
    first, second, third = (0.025 / (claims - rank) for rank in range(3))
    judgements = load("stored_verdicts").judged(
        [
            stored_verdict("C3.1", statistic("a", 1e-5), statistic("b", first / 2)),
            stored_verdict("C3.2", statistic("a", (first + second) / 2)),
            stored_verdict("C3.3", statistic("a", 1.01 * third)),
            stored_verdict("C3.4", statistic("a", 1.02 * third)),
            stored_verdict("C3.5", statistic("a", 1.0, "contradicted")),
        ]
    )
    verdicts = {claim_id: (judgement.verdict, judgement.alone) for claim_id, judgement in judgements.items()}
    assert verdicts == {
        "C3.1": ("supported", "supported"),
        "C3.2": ("supported", "inconclusive"),
        "C3.3": ("inconclusive", "inconclusive"),
        "C3.4": ("inconclusive", "inconclusive"),
        "C3.5": ("contradicted", "contradicted"),
    }
    levels = [judgement.level for judgement in judgements.values()]
    assert levels == pytest.approx([first, second, 0, 0, 0])
    assert {judgement.family for judgement in judgements.values()} == {claims}


def test_a_page_says_when_its_figure_shows_another_run(
    load: Load, planted: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, page = load("stored_verdicts"), load("verdict_paper")
    monkeypatch.setattr(module, "FIGURES", tmp_path)
    verdict = json.loads((tmp_path / "C2.2.json").read_text())
    title = f"C2.2: supported (smoke scale, {verdict['seeds']} seeds from 0)"
    assert module.drawn_title("C2.2") == module.title(verdict) == title
    assert len(page._figure(verdict)) == 1
    for change in ({"verdict": "inconclusive"}, {"first_seed": 1000}, {"seeds": 99}, {"scale": "laptop"}):
        assert "an earlier run or an earlier drawing" in page._figure(verdict | change)[-1]
    assert page._figure(verdict | {"id": "C2.3"}) == ["There is no figure."]


def test_rows_have_unique_names_and_show_where_the_second_seeds_differ(load: Load) -> None:
    twice = [
        statistic("loss", 0.0, convention="at one rate"),
        statistic("loss", 0.0, convention="at another"),
        statistic("|a|", 0),
    ]
    assert row_names(twice) == ["loss, at one rate", "loss, at another", "|a|"]
    first = stored_verdict("C3.3", *twice[1:], beside=twice[:1])
    second = stored_verdict("C3.3", twice[1] | {"outcome": "inconclusive"}, twice[2], beside=twice[:1])
    rows = [re.split(r" (?<!\\)\| ", row) for row in load("verdict_paper")._table(first, second)[2:5]]
    assert [row[0] for row in rows] == ["| loss, at another", r"| \|a\|", "| loss, at one rate"]
    assert [row[2] for row in rows] == ["1 [0.9, 1.1], inconclusive", "1 [0.9, 1.1]", "1 [0.9, 1.1]"]
    assert {len(row) for row in rows} == {5}


def test_the_second_seeds_are_shown_where_another_comparison_decides_there(load: Load) -> None:
    beside = [statistic("at ½", 0.0), statistic("at ¼", 0.0)]
    first = stored_verdict("C1.2", statistic("at ¼", 0.0), beside=beside)
    second = stored_verdict("C1.2", statistic("at ½", 0.0), beside=beside)
    rows = load("verdict_paper")._table(first, second)[2:6]
    cells = [row.split(" | ") for row in rows]
    assert [(row[1][0], row[2][0], row[4]) for row in cells] == [
        ("1", "–", "supported |"), ("–", "1", "– |"), ("1", "1", "(supported) |"), ("1", "1", "(supported) |")
    ]  # fmt: skip


def test_a_page_says_that_a_verdict_was_recomputed_after_it_was_seen(load: Load) -> None:
    reanalyses = load("reanalyses")
    for claim_id in CLAIMS:
        for number in (8, 9, 10, 11):
            remark = reanalyses.reanalysis(stored_verdict(claim_id, first_seed=1000 * number))
            assert bool(remark) == (claim_id in ("C3.3", "C3.4", "C3.7", "C3.8") and number in (9, 10))
    pages = load("verdict_paper").paper_page("smith2020"), load("verdict_overview").overview()
    assert pages[0].count("after the verdicts on sets 9 and 10 had been seen") == 4
    assert "C3.3, C3.4, C3.7 and C3.8 were recomputed" in pages[1]


def test_verdicts_of_other_sets_are_not_overwritten(load: Load, tmp_path: Path) -> None:
    module = load("verdicts")
    for claim_id, sets in (("C1.1", module.NEW_SETS), ("C1.2", module.SETS)):
        path = tmp_path / f"{claim_id}-second.json"
        for number in range(1, max(module.NEW_SETS) + 1):
            path.write_text(json.dumps(stored_verdict(claim_id, first_seed=1000 * number)))
            if number in sets:
                module.refuse_other_sets(tmp_path)
            else:
                with pytest.raises(SystemExit, match=f"Got: a verdict on seed set {number}"):
                    module.refuse_other_sets(tmp_path)
        path.unlink()


def test_verdicts_of_changed_estimators_are_kept_apart(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("verdicts")
    folder, stored = tmp_path / "runs", tmp_path / "stored"
    folder.mkdir(), stored.mkdir()
    monkeypatch.setattr(module, "STORED", stored)
    monkeypatch.setattr(module, "COMPARED", stored / "compared")
    (folder / "C1.1.json").write_text("{}")
    (folder / "C1.2.json").write_text("{}")
    for number in (9, 10, 11, 12):
        module.gather(folder, ["C1.1", "C1.2"] if number in module.SETS else ["C1.1"], number)
    names = {path.relative_to(stored).as_posix() for path in stored.rglob("*.json")}
    assert names == {
        "C1.1.json", "C1.1-second.json", "C1.2.json", "C1.2-second.json",
        "compared/C1.1-9.json", "compared/C1.1-10.json",
    }  # fmt: skip


def test_the_command_on_a_page_repeats_the_claims_of_the_page(planted: Verdict, tmp_path: Path) -> None:
    assert "noisescale verify C2.2 --scale smoke" in (tmp_path / "li2020.html").read_text()
    paper = [replace(planted, id=claim.id) for claim in CLAIMS.values() if claim.paper == "li2020"]
    write_verdict_pages([(verdict, None) for verdict in paper], tmp_path)
    assert "noisescale verify li2020 --scale smoke" in (tmp_path / "li2020.html").read_text()


def test_the_page_of_claims_says_whether_there_are_verdicts_at_gpu_scale(load: Load) -> None:
    none_yet = "There are no verdicts at `gpu` scale yet"
    page = " ".join((ROOT / "docs" / "claims.md").read_text().split())
    assert (none_yet in page) == load("verdict_overview").at_gpu().startswith(none_yet)
