from __future__ import annotations

import math
import re
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from noisescale.laws import recommend
from noisescale.laws.fitting import fit
from noisescale.laws.results import Fit
from noisescale.report import fit_tables, recommendation_tables
from noisescale.report.recommended_setting import recommendation_table_data
from noisescale.report.tables import TableData, fit_table_data
from noisescale.report.terminal import fitted as fitted_table
from noisescale.report.terminal import print_tables

# Width of the command line's output without a terminal.
COLUMNS = 140


@pytest.fixture(scope="module")
def fitted(make_study: Any) -> Fit:
    return fit(make_study(seeds=8))


def printed(tables: list[Any]) -> str:
    buffer = StringIO()
    console = Console(width=COLUMNS, file=buffer)
    for table in tables:
        console.print(table)
    return buffer.getvalue()


def test_no_number_is_cut_or_wrapped_at_140_columns(fitted: Fit) -> None:
    text = printed(fit_tables(fitted))
    entries = [entry for data in fit_table_data(fitted) for row in data.rows for entry in row if len(entry) <= 44]
    assert len(entries) > 60
    assert [entry for entry in entries if entry not in text] == []


def test_the_longest_status_fits(fitted: Fit) -> None:
    data = fit_table_data(fitted)[0]
    settings = ("1024", "123,000 [100,000, >]", "≤ 9.3 [<, 9.6]", "100.0 [100.0, 100.0]")
    longest = (
        *settings,
        "0.0123 [0.0111, 0.0222] (64)",
        "1,234 [1,111, 2,345] *",
        "censored high, stability-limited",
    )
    table = type(data)(data.title, data.columns, (longest,), ()).as_rich()
    text = printed([table])
    assert all(entry in text for entry in longest[:-1]) and "stability-limited" in text


def test_a_table_of_many_metrics_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    row = tuple(f"0.0123 [0.0111, 0.022{k}]" for k in range(9))
    table = TableData("Laws", row, (row,), ("a note " * 40,)).as_rich()
    print_tables([table])
    lines = capsys.readouterr().out.splitlines()
    assert all(any(entry in line for line in lines) for entry in row)


@pytest.mark.parametrize("width", [30, 60, 80, 100, 140])
def test_no_entry_is_cut_in_a_terminal_of_any_width(fitted: Fit, width: int) -> None:
    numbers = tuple(f"0.01{k} [0.0111, 0.02{k}]" for k in range(5))
    status = ("censored high, stability-limited, not late",)
    data = [*fit_table_data(fitted), TableData("Laws", (*"abcde", "status"), (numbers + status,) * 2, ("A note.",))]
    for table in data:
        output = StringIO()
        Console(file=output, width=width).print(fitted_table(table.as_rich(), width))
        text = output.getvalue()
        assert max(map(cell_len, text.splitlines())) <= width
        words = [word for row in (table.columns, *table.rows) for entry in row for word in entry.split()]
        assert all(word in text for word in words if cell_len(word) < width // 2)
        if width >= 60:
            assert all(number in text for row in table.rows for entry in row for number in _intervals(entry))


def _intervals(entry: str) -> list[str]:
    return re.findall(r"\[[^]]*\]", entry)


def test_convergence_by_accuracy_is_mentioned_only_with_an_accuracy(fitted: Fit, make_study: Any) -> None:
    def mentions(fit: Fit) -> list[bool]:
        return [any("counts as converged if" in note for note in data.notes) for data in fit_table_data(fit)]

    assert any(mentions(fitted))
    study = make_study(seeds=8)
    runs = study.runs().assign(test_accuracy=math.nan, validation_accuracy=math.nan, chance_accuracy=math.nan)
    spec = {**study.spec, "fit": {**study.spec["fit"], "metric": "loss"}}
    assert not any(mentions(fit(SimpleNamespace(spec=spec, runs=lambda: runs))))


def test_columns_of_a_stability_ladder_need_one(fitted: Fit, make_study: Any) -> None:
    stability = {"ε½ (at B)", "B*"}
    assert stability < set(fit_table_data(fitted)[0].columns)
    without = fit_table_data(fit(make_study(seeds=3, widths=(32, 64), stability=False)))[0]
    assert not stability & set(without.columns)
    assert {len(without.columns)} == {len(row) for row in without.rows} and without.columns[-1] == "status"


def test_tables_show_every_width_and_both_metrics(fitted: Fit) -> None:
    accuracy, loss, cells, laws, edges = fit_table_data(fitted)
    assert (
        [row[0] for row in accuracy.rows]
        == [row[0] for row in loss.rows]
        == [row[0] for row in cells.rows]
        == ["16", "32", "64", "128", "256"]
    )
    assert laws.columns == ("exponent of width", "by accuracy", "widths", "by loss", "widths")
    assert [row[0] for row in edges.rows] == ["2", "8", "64"]
    assert "95 % intervals" in edges.notes[-1]


def test_the_ladder_marks_the_default_and_ends_two_rows_above_the_edge(fitted: Fit) -> None:
    recommendation = recommend(fitted, 512)
    default, ladder = recommendation_table_data(recommendation)
    marked = [row[0] for row in ladder.rows if "←" in row[0]]
    assert marked == [f"{recommendation.batch_size} ←"]
    assert default.rows[0][1] == str(recommendation.batch_size)
    above = [rung.learning_rate.low > rung.stability_edge.high for rung in recommendation.ladder]
    assert len(ladder.rows) == above.index(True) + 2 < len(recommendation.ladder)
    assert any(note.startswith(f"Batch sizes above {ladder.rows[-1][0]} are left out") for note in ladder.notes)
    # Each rung says whether the study supports it; a number names the reason in the notes.
    for row in ladder.rows:
        assert row[-1] == "yes" or any(note.startswith(f"Not supported {row[-1][3:]}: ") for note in ladder.notes)
    assert next(row for row in ladder.rows if "←" in row[0])[-1] == "yes"
    expected = recommendation.expected_metric
    assert default.rows[0][5].startswith(f"{100 * expected.value:.1f} [{100 * expected.low:.1f}, ")
    assert any(note.startswith("Warning: the optimum is chosen") for note in default.notes)
    text = printed(recommendation_tables(recommendation))
    assert all(entry in text for row in ladder.rows for entry in row)
