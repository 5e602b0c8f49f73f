"""Write the sentences, tables and figure of a study into a page (`make readme`, `make convnet`)."""

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
    """Print tables as plain text, as the command line does if its output is not a terminal."""
    stream = io.StringIO()
    console = Console(file=stream, width=140)
    for table in tables:
        console.print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines() if line.strip())


def result(folder: Path, picture: Path, page: Path) -> str:
    """Write the part of a page that shows a study, and copy the study's figure.

    Args:
        folder: Folder of the study.
        picture: Path to which the figure is copied.
        page: Path of the page, from which the link to the figure starts.
    """
    study = Study.open(folder)
    report = write_report(study)
    picture.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(report.parent / "figures" / FIGURE, picture)
    sentences = json.loads((report.parent / "report.json").read_text(encoding="utf-8"))["result"]
    twice_the_width = 2 * max(study.spec["grid"]["width"])
    recommendation = recommendation_tables(recommend(study, width=twice_the_width))[:1]
    return "\n".join(
        [
            *(f"- {sentence}" for sentence in sentences),
            f"- {cost(study, folder)}",
            "",
            f"![best normalized noise scale against width]({os.path.relpath(picture, page.parent)})",
            "",
            "```",
            as_text([*fit_tables(fit(study)), *recommendation]),
            "```",
        ]
    )


def cost(study: Study, folder: Path) -> str:
    """State how many runs a study has and how long they took."""
    runs = study.runs()
    grid, ladder, price = ((runs.purpose == purpose).sum() for purpose in ("sweep", "stability", "price"))
    larger = f", and {price:,} runs at larger learning rates," if price else ""
    sessions = [json.loads(line) for line in (folder / "times.jsonl").read_text(encoding="utf-8").splitlines()]
    minutes = sum(session["wall"] for session in sessions if session["command"] == "sweep") / 60
    return (
        f"{grid:,} runs of the grid and {ladder:,} short runs of the stability ladder{larger} took {minutes:.1f} "
        "minutes on the machine of benchmarks/results/speed.md."
    )


def main() -> None:
    """Replace the part of the page between the two markers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=ROOT / "runs" / "mnist1d")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "quickstart.md")
    parser.add_argument("--picture", default="quickstart.svg", help="name of the figure's copy in docs/figures")
    arguments = parser.parse_args()
    text = arguments.page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    note, _ = rest.split("\n", 1)
    after = rest.split(END, 1)[1]
    body = result(arguments.study, ROOT / "docs" / "figures" / arguments.picture, arguments.page.resolve())
    arguments.page.write_text(f"{before}{BEGIN}{note}\n{body}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
