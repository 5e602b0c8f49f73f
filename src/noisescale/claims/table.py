"""The table of claims, by id. A claim is a row of its paper's module in `claims/papers/`."""

from __future__ import annotations

from typing import Any

from noisescale.claims.claim import PAPERS, Claim
from noisescale.claims.evidence import SCALES
from noisescale.claims.papers import jastrzebski2017, li2020, park2019, smith2020
from noisescale.errors import unknown_name

CLAIMS: dict[str, Claim] = {
    claim.id: claim for paper in (park2019, li2020, smith2020, jastrzebski2017) for claim in paper.CLAIMS
}


def choose_claims(names: list[str]) -> list[Claim]:
    """Return the claims with the given ids, and the claims of the given papers, each once.

    Args:
        names: Ids of claims and names of papers.

    Raises:
        BadInput: A name is neither an id nor a paper.
    """
    chosen: dict[str, Claim] = {}
    for name in names:
        claims = [claim for claim in CLAIMS.values() if name in (claim.id, claim.paper)]
        if not claims:
            raise unknown_name("ID", (*PAPERS, *CLAIMS), name)
        chosen |= {claim.id: claim for claim in claims}
    return list(chosen.values())


def listed_claims() -> list[dict[str, Any]]:
    """Return every claim as plain values. `scales` lists the scales at which it has an experiment."""
    return [
        {
            "id": claim.id,
            "paper": claim.paper_title,
            "statement": claim.statement,
            "statistic": claim.statistic,
            "criterion": claim.criterion,
            "source": claim.source,
            "scales": [scale for scale in SCALES if claim.runs_at(scale)],
            "minutes": claim.minutes,
            "differs": claim.differs,
            "disputed": claim.disputed,
        }
        for claim in CLAIMS.values()
    ]
