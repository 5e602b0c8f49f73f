"""`noisescale claims`: what the papers say, and how it is judged."""

from __future__ import annotations

from noisescale.cli.arguments import AsJson
from noisescale.cli.json_output import print_json


def claims_command(as_json: AsJson = False) -> int:
    """List the claims of the papers, with statement, statistic, criterion and available scales."""
    from noisescale.claims import listed_claims
    from noisescale.report import claims_tables, print_tables

    claims = listed_claims()
    if as_json:
        print_json(claims)
    else:
        print_tables(claims_tables(claims))
    return 0
