"""`noisescale recommend`: settings for one width, and their check."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from noisescale.cli.arguments import AsJson, Folder
from noisescale.cli.json_output import print_json
from noisescale.cli.unfinished import warn_if_unfinished
from noisescale.streams import output_as_errors


def recommend_command(
    folder: Folder,
    width: Annotated[
        int | None, typer.Option(min=1, help="The width to train. A study of one fixed model has none.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Keep this batch size.")] = None,
    prefer: Annotated[
        str, typer.Option(help="metric: the best metric. steps, examples or time: the least among those as good.")
    ] = "metric",
    tolerance: Annotated[str, typer.Option(help="Loss that is still as good, as a share of the span.")] = "0.5%",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Follow runs with grid.optimizer=sgd, say.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Train so many steps, if budgets are compared.")] = None,
    examples: Annotated[int | None, typer.Option(min=1, help="See about so many examples, likewise.")] = None,
    train_size: Annotated[
        int | None, typer.Option(min=1, help="Number of training examples, if the study compares several.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Train it and default settings, and compare them.")] = False,
    check_seeds: Annotated[int, typer.Option(min=2, help="Fresh seeds of the check.")] = 5,
    check_budget: Annotated[float, typer.Option(min=0, help="Seconds that the check may take.")] = 600.0,
    as_json: AsJson = False,
) -> int:
    """Recommend a learning rate, a batch size and steps, for a width if the study's model has one."""
    from noisescale.check import check_recommendation
    from noisescale.laws import read_settings, read_share, recommend
    from noisescale.report import check_tables, print_tables, recommendation_tables
    from noisescale.store import Study

    study = Study.open(folder)
    warn_if_unfinished(folder)
    held, share = read_settings("--set", set_ or []), read_share("--tolerance", tolerance)
    recommendation = recommend(
        study, width, batch_size, prefer=prefer, tolerance=share, held=held, steps=steps, examples=examples,
        train_size=train_size,
    )  # fmt: skip
    values, tables = recommendation.as_json(), recommendation_tables(recommendation)
    if check:
        with output_as_errors():
            result = check_recommendation(
                study, recommendation, batch_size, held=held, seeds=check_seeds, budget=check_budget,
                log=lambda line: print(line, file=sys.stderr, flush=True),
            )  # fmt: skip
        values["check"] = result.as_json()
        tables += check_tables(result, fixed=recommendation.fixed)
    if as_json:
        print_json(values)
    else:
        print_tables(tables)
        print(f"`noisescale report {folder}` prints a program that trains with a recommendation in plain torch.")
    return 0
