"""Sentences and Markdown that are common to the overview of all verdicts and the page of a paper."""

from __future__ import annotations

import textwrap
from collections import Counter

from stored_verdicts import Judgement, StoredVerdict, changed, seed_set, stored

from noisescale.claims import CLAIMS

ABOUT = (
    "Every criterion was committed before the runs that test it, and those runs use seeds that development never "
    "used. A claim is `supported` only if every statistic lies inside its region, both with its whole 95 % interval "
    "and at Holm's level over all claims of the paper. It is `contradicted` if the 95 % interval of a statistic lies "
    "outside its region. A claim can therefore be `inconclusive` although the interval shown lies inside. The margins "
    "are 5 % for values at equilibrium, 10 % for relaxation rates, 0.25 for slopes that should be equal and 0.5 for "
    "slopes that should be 1 rather than ½. For accuracies, the margin is the larger of ½ point and a quarter of a "
    "detected control. We know each statement in one of three ways: read (in the paper), recalled (from memory) or "
    "derived (from the paper's equations). `criterion_commit` in a JSON file names the last change to the code of any "
    "claim or law before the verdict was computed. The stored sweeps can be older."
)
# Names of the parts of a verdict on the pages.
_PARTS = {"statement": "statement", "criterion": "criterion", "differs": "account of the differences from the paper"}


def seed_sets(paper: str | None = None) -> str:
    """State which seed set decides which claim, from the stored files.

    Args:
        paper: Key of one paper; None for all claims.
    """
    chosen = [claim.id for claim in CLAIMS.values() if paper in (None, claim.paper)]
    sets = {
        claim_id: tuple(map(seed_set, filter(None, stored(claim_id)))) for claim_id in chosen if stored(claim_id)[0]
    }
    if not sets:
        return ""
    most_common = Counter(sets.values()).most_common(1)[0][0]
    sentences = [
        f"Seed set {most_common[0]} decides{f'; set {most_common[1]} is the second' if len(most_common) > 1 else ''}."
    ]
    for other in sorted(set(sets.values()) - {most_common}):
        ids = listed([claim_id for claim_id, pair in sets.items() if pair == other])
        second = f"; set {other[1]} is the second" if len(other) > 1 else "; there is no second set"
        sentences.append(f"For {ids}, set {other[0]} decides{second}.")
    if seen := [claim_id for claim_id, pair in sets.items() if len(pair) > 1 and pair[1] < pair[0]]:
        sentences.append(f"The second set of {listed(seen)} had been seen before the claim was decided.")
    return " ".join(sentences)


def since(verdict: StoredVerdict) -> str:
    """State which parts of a claim were changed after its verdict."""
    return f"{listed([_PARTS[name] for name in changed(verdict)])} changed since: to be run again"


def outdated() -> list[str]:
    """Name the claims whose statement, criterion or differences changed after their verdict, one claim per line."""
    return [
        f"{claim_id}: {since(verdict)}"
        for claim_id in CLAIMS
        for verdict in stored(claim_id)[:1]
        if verdict and changed(verdict)
    ]


def word(verdict: StoredVerdict, judgements: dict[str, Judgement]) -> str:
    """Return the verdict of a claim when it is judged among all claims of its paper."""
    claim_id = verdict["id"]
    return judgements[claim_id].verdict if claim_id in judgements else str(verdict["verdict"])


def interval(statistic: StoredVerdict) -> str:
    """Format a value with its 95 % interval, with four digits."""
    value, low, high = (
        "–" if statistic[name] is None else f"{statistic[name]:.4g}" for name in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def table_row(*texts: str) -> str:
    """Format a row of a table. A bar within a cell is escaped, because it would end the cell."""
    escaped = [text.replace("|", "\\|") for text in texts]
    return f"| {' | '.join(escaped)} |"


def listed(words: list[str]) -> str:
    """Join words as a sentence does: a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def wrapped(text: str) -> list[str]:
    """Wrap a paragraph for the source of a page, with a blank line after it."""
    return [textwrap.fill(text, 110, break_on_hyphens=False), ""] if text else []
