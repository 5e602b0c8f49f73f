"""`noisescale report`: figures and a page."""

from __future__ import annotations

from noisescale.cli.arguments import Folder
from noisescale.cli.unfinished import warn_if_unfinished


def report_command(folder: Folder) -> int:
    """Write DIR/report with a self-contained index.html, its figures and report.json."""
    from noisescale.report import write_report
    from noisescale.store import Study, record_time

    study = Study.open(folder)
    warn_if_unfinished(folder)
    with record_time(folder, "report"):
        path = write_report(study)
    print(f"report: {path}")
    return 0
