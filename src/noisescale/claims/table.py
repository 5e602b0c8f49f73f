"""All claims, by id."""

from __future__ import annotations

from typing import Any

from noisescale.claims import jastrzebski2017, li2020, park2019, smith2020
from noisescale.claims.claim import PAPERS, Claim
from noisescale.errors import unknown_name

CLAIMS: dict[str, Claim] = {
    claim.id: claim for paper in (park2019, li2020, smith2020, jastrzebski2017) for claim in paper.CLAIMS
}


def choose_claims(names: list[str]) -> list[Claim]:
    """The claims that ids, and names of papers, stand for; each once.

    Raises:
        BadInput: a name that is neither.
    """
    found: dict[str, Claim] = {}
    for name in names:
        own = [claim for claim in CLAIMS.values() if name in (claim.id, claim.paper)]
        if not own:
            raise unknown_name("ID", (*PAPERS, *CLAIMS), name)
        found |= {claim.id: claim for claim in own}
    return list(found.values())


def listed_claims() -> list[dict[str, Any]]:
    """Every claim as plain values; `scales` are those at which there is an experiment."""
    return [
        {
            "id": claim.id,
            "paper": PAPERS[claim.paper],
            "statement": claim.statement,
            "statistic": claim.statistic,
            "criterion": claim.criterion,
            "source": claim.source,
            "scales": [
                *(("smoke", "laptop") if claim.experiment is not None else ()),
                *(("gpu",) if claim.at_gpu else ()),
            ],
            "minutes": claim.minutes,
            "differs": claim.differs,
            "disputed": claim.disputed,
        }
        for claim in CLAIMS.values()
    ]
