"""`noisescale fit`: optima and laws of a study."""

from __future__ import annotations

import sys

from noisescale.cli.arguments import AsJson, Folder
from noisescale.cli.json_output import print_json
from noisescale.cli.unfinished import warn_if_unfinished


def fit_command(folder: Folder, as_json: AsJson = False) -> int:
    """Locate the optimum of every width and fit the scaling laws, with confidence intervals."""
    from noisescale.laws import fit
    from noisescale.report import fit_tables, print_tables
    from noisescale.store import Study, record_time

    study = Study.open(folder)
    warn_if_unfinished(folder)
    with record_time(folder, "fit"):
        report = fit(study)
    for warning in report.warnings:
        print(f"noisescale: {warning}", file=sys.stderr)
    if as_json:
        print_json(report.as_json())
    else:
        print_tables(fit_tables(report))
    return 0
