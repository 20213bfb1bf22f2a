"""From a question to a full-text query.

Words that carry no content are left out; what stays is quoted, so that no text is ever read as FTS5 syntax.
Stemming is FTS5's own (Porter), the same for questions and memories.
"""

from __future__ import annotations

import re

MAX_TERMS = 24

_WORD = re.compile(r"[^\W_]+")

STOP_WORDS = frozenset(
    """
    a about above after again against all also am an and any anyone anything are aren as at be because been before
    being below between both but by can cannot could couldn d did didn do does doesn doing don down during each else
    ever every few for from further get gets getting give go goes going gonna got had hadn has hasn have haven having
    he her here hers herself hey hi him himself his how i if in into is isn it its itself just know let like ll m
    many may maybe me might mine more most much must my myself no nor not now of off oh ok okay on once one only or
    other our ours ourselves out over own please re really s same shall she should shouldn so some someone something
    still such sure t tell than that the their theirs them themselves then there these they thing things this those
    through to too under until up us ve very was wasn way we well were weren what when where which while who whom
    whose why will with won would wouldn yeah yes yet you your yours yourself
    """.split()
)


def terms(text: str) -> list[str]:
    """The words of a text that carry content, lower-cased, each once, in order; at most `MAX_TERMS`."""
    found: dict[str, None] = {}
    for word in _WORD.findall(text.casefold()):
        if word not in STOP_WORDS and (len(word) > 1 or not word.isascii() or word.isdigit()):
            found.setdefault(word)
    return list(found)[:MAX_TERMS]


def any_of(words: list[str]) -> str:
    """An FTS5 expression that matches texts with any of the words."""
    return " OR ".join(quoted(word) for word in words)


def quoted(word: str) -> str:
    """One word as an FTS5 string."""
    return '"' + word.replace('"', '""') + '"'
