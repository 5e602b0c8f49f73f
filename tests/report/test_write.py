from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from noisescale.laws.fitting import fit
from noisescale.laws.optima import OPTIMUM_ADVICE
from noisescale.report import write_report
from noisescale.report.write import _counts as run_counts

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "report.json"
NASTY = '</script><img src=x onerror=alert(1)> & "quotes"'


class Page(HTMLParser):
    """Parser of a page that collects its tags, its text, its data and the addresses that it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.text = self.data = ""
        self._element = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._element = tag
        for name, value in attrs:
            if name == "src" or (name in ("href", "xlink:href") and tag != "a" and not str(value).startswith("#")):
                self.loaded.append(str(value))

    def handle_data(self, data: str) -> None:
        if self._element == "script":
            self.data += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def written(make_study: Any) -> tuple[Path, Any]:
    study = make_study(seeds=3, widths=(32, 64), batches=(4, 8, 16, 32, 64, 128), name=NASTY)
    (study.folder / "times.jsonl").write_text('{"command": "sweep", "training": 12.5, "wall": 20.0}\n{"command": "sw')
    return write_report(study), study


def parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_the_page_is_one_file_that_loads_nothing(written: tuple[Path, Any]) -> None:
    page = parsed(written[0])
    assert all(address.startswith("data:image/png") for address in page.loaded)
    assert "link" not in page.tags and "img" not in page.tags and "iframe" not in page.tags
    assert not re.search(r"url\((?!#)|@import", written[0].read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 8


def test_text_of_the_user_is_escaped(written: tuple[Path, Any]) -> None:
    page = parsed(written[0])
    assert NASTY in page.text and page.tags.count("script") == 1
    assert json.loads(page.data)["name"] == NASTY


def test_every_group_of_a_study_has_its_table_and_its_figures(make_study: Any) -> None:
    study = make_study(seeds=3, widths=(32, 64), batches=(4, 8, 16, 32, 64), momenta=(0.0, 0.5), stability=False)
    path = write_report(study)
    data = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
    assert [group["varied"] for group in data["fit"]["groups"]] == [{"momentum": 0.0}, {"momentum": 0.5}]
    names = [figure["name"] for figure in data["figures"]]
    first, second = ({name[:-2] for name in names if name.endswith(f"-{k}")} for k in (1, 2))
    # The study has one recommendation. Each group has all other figures.
    assert len(second) > 5 and first ^ second == {"recommendation"}
    text = parsed(path).text
    assert "momentum 0" in text and "momentum 0.5" in text


def test_ids_are_unique(written: tuple[Path, Any]) -> None:
    ids = re.findall(r'\bid="([^"]+)"', written[0].read_text(encoding="utf-8"))
    svg_defs = [name for name in ids if not re.search(r"(figure|axes|patch|line2d|text|legend)", name)]
    assert len(ids) > 100 and len(set(svg_defs)) == len(svg_defs)


def test_the_json_matches_the_schema_and_the_page(written: tuple[Path, Any]) -> None:
    path, study = written
    data = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert set(data) == set(schema["required"]) == set(schema["properties"])
    assert set(data["runs"]) == set(schema["properties"]["runs"]["required"])
    assert data["schema_version"] == schema["properties"]["schema_version"]["const"]
    assert data == json.loads(parsed(path).data)
    assert data["fit"] == json.loads(json.dumps(fit(study).as_json()))
    estimate = data["fit"]["summary"][0]["learning_rate"]
    assert set(estimate) == set(schema["$defs"]["estimate"]["required"])
    assert data["times"] == [{"command": "sweep", "training": 12.5, "wall": 20.0}]


def test_the_page_names_its_data_versions_and_caveats(written: tuple[Path, Any]) -> None:
    text = parsed(written[0]).text
    for needed in ("chosen and reported on the same test set", "a" * 64, "torch", "Runs of the grid", "36: 0 diverged",
                   "batch_size", "20 s"):  # fmt: skip
        assert needed in text, needed


def test_the_glossary_explains_every_status(written: tuple[Path, Any]) -> None:
    (section,) = re.findall(r"<section>(.*?)</section>", written[0].read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "Glossary" in section
    explained = {unescape(word): unescape(text) for word, text in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", section)}
    for label, advice in OPTIMUM_ADVICE.items():
        assert advice in explained[label.replace("_", " ")]
    # These two labels have the spelling of the tables.
    assert explained["not late"] and explained["stability-limited"]
    assert "Recommendation.parameter_groups" in explained["NTK parameterization"]


def test_every_figure_has_its_files(written: tuple[Path, Any]) -> None:
    path = written[0]
    data = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
    for figure in data["figures"]:
        for suffix in ("png", "svg"):
            assert (path.parent / "figures" / f"{figure['name']}.{suffix}").stat().st_size > 2000


def test_each_purpose_of_runs_is_counted_alone() -> None:
    purposes = ["sweep"] * 5 + ["stability"] * 3 + ["price"] * 2
    statuses = ["diverged", *["completed"] * 4, *["diverged"] * 2, "completed", "completed", "diverged"]
    runs = pd.DataFrame({"purpose": purposes, "status": statuses, "collapsed": [False, True, *[False] * 8]})
    assert run_counts(runs) == {
        "grid": 5, "grid_diverged": 1, "grid_collapsed": 1,
        "stability": 3, "stability_diverged": 2, "stability_collapsed": 0,
        "price": 2, "price_diverged": 1, "price_collapsed": 0,
    }  # fmt: skip
