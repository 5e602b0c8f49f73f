"""`noisescale verify`: run the experiments of claims."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from noisescale.cli.arguments import AsJson
from noisescale.cli.json_output import print_json


def verify_command(
    names: Annotated[list[str], typer.Argument(metavar="ID...", help="Claims or papers, such as C2.3 or li2020.")],
    out: Annotated[Path, typer.Option(help="Folder of the verdicts, with one file per claim.")],
    scale: Annotated[str, typer.Option(help="smoke, laptop or gpu.")] = "laptop",
    seed_set: Annotated[int, typer.Option(min=0, max=999, help="Another number uses different seeds throughout.")] = 0,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after this many seconds. The same command continues.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Run the experiments of claims and judge each as supported, contradicted or inconclusive."""
    from noisescale.claims import verify
    from noisescale.report import print_tables, verdict_tables, write_verdict_pages

    verdicts = verify(
        names, scale=scale, out=out, seed_set=seed_set, max_seconds=max_seconds,
        log=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    pages = write_verdict_pages(verdicts, out)
    if as_json:
        print_json([verdict.as_json() for verdict, _ in verdicts])
    else:
        print_tables(verdict_tables([verdict for verdict, _ in verdicts]))
        print(f"wrote {', '.join(map(str, pages))}")
    return 1 if any(verdict.verdict == "not run" for verdict, _ in verdicts) else 0
