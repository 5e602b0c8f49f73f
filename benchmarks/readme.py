"""Write a study into a page, as sentences, tables and a figure of that very run (`make readme`, `make convnet`)."""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from noisescale.laws import fit, recommend
from noisescale.report import fit_tables, recommendation_tables, write_report
from noisescale.store import Study

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- study:begin", "<!-- study:end -->"
FIGURE = "noise-law.svg"


def as_text(tables: list[Table]) -> str:
    """Tables as plain text, as the command line prints them where it is no terminal."""
    stream = io.StringIO()
    console = Console(file=stream, width=140)
    for table in tables:
        console.print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines() if line.strip())


def result(folder: Path, picture: Path, page: Path) -> str:
    """The page's part about the study."""
    study = Study.open(folder)
    report = write_report(study)
    picture.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(report.parent / "figures" / FIGURE, picture)
    sentences = json.loads((report.parent / "report.json").read_text(encoding="utf-8"))["result"]
    found = fit(study)
    twice = 2 * max(study.spec["grid"]["width"])
    advice = recommendation_tables(recommend(study, width=twice))[:1]
    runs = study.runs()
    grid = runs[runs.purpose == "sweep"]
    walls = [json.loads(line) for line in (folder / "times.jsonl").read_text(encoding="utf-8").splitlines()]
    minutes = sum(entry["wall"] for entry in walls if entry["command"] == "sweep") / 60
    times = (
        f"{len(grid):,} runs of the grid and {len(runs) - len(grid):,} short ones of the stability ladder "
        f"in {minutes:.1f} minutes on the machine of benchmarks/results/speed.md."
    )
    return "\n".join(
        [
            *(f"- {sentence}" for sentence in sentences),
            f"- {times}",
            "",
            f"![best normalized noise scale against width]({os.path.relpath(picture, page.parent)})",
            "",
            "```",
            as_text([*fit_tables(found), *advice]),
            "```",
        ]
    )


def main() -> None:
    """Replace the page's part between its marks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=ROOT / "runs" / "mnist1d")
    parser.add_argument("--page", type=Path, default=ROOT / "README.md")
    parser.add_argument("--picture", default="quickstart.svg", help="name of the figure's copy in docs/figures")
    chosen = parser.parse_args()
    text = chosen.page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    mark, _ = rest.split("\n", 1)
    after = rest.split(END, 1)[1]
    body = result(chosen.study, ROOT / "docs" / "figures" / chosen.picture, chosen.page.resolve())
    chosen.page.write_text(f"{before}{BEGIN}{mark}\n{body}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
