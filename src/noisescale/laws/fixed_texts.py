"""Sentences about one fixed model, whose rows in tables have the width 1, without this width."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Parts of sentences about a width, and what takes their place for a model without a width.
_REPLACED = (
    (re.compile(r"\bwidth 1 was trained but is not in the law: "), "the optimum is not determined: "),
    (re.compile(r"^no law over widths: the best trained cell of the nearest width"), "the best trained cell"),
    (re.compile(r"\bat width 1, the nearest: "), "is "),
    (re.compile(r"\b[Aa]t width 1,? the "), "the "),
    (re.compile(r"^[Aa]t width 1,? "), ""),
    (re.compile(r"\(width 1, "), "("),
    (re.compile(r" (?:at|of|for) (?:width 1\b|this width\b|any width\b)"), ""),
)  # fmt: skip
_OF_A_LAW = re.compile(r"the law is inconclusive: |the law bends: ")


def without_width(texts: Iterable[str]) -> tuple[str, ...]:
    """Rewrite sentences for a model without a width, and leave out those about laws over widths.

    Args:
        texts: Sentences about the width 1.
    """
    sentences = []
    for text in texts:
        if _OF_A_LAW.search(text):
            continue
        for pattern, replacement in _REPLACED:
            text = pattern.sub(replacement, text)
        sentences.append(text)
    return tuple(sentences)
