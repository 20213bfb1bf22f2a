"""From a question to the words that are looked up.

Words that carry no content are left out, greetings and thanks among them. Stemming is FTS5's own (Porter), the same
for questions and memories (full_text.py); what it cannot bring together, forms.py does. A shared word is worth the
more the fewer memories hold it: `weight` is the square of BM25's inverse document frequency, and names and numbers
weigh more.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .irregular_forms import forms_of

MAX_TERMS = 24

EMPHASIS = 1.3
"""What a name or a number weighs beside other words."""

UNIT = 7.0
"""Divides squared inverse document frequencies, so that a word of one memory in a small bank weighs about 7."""

IMAGINED = 1000
"""Memories a bank is thought to hold beside its own, all without the word: in a bank of three, "in one of three"
says nothing of how rare a word is. Costs nothing on large banks (turn R@5 .613 without, .609 with)."""

_WORD = re.compile(r"[^\W_]+")
_NAME_WITHIN = re.compile(r"(?<=[\w,;:'’] )[^\W\d_a-z][^\W_]*")
_GREETING = re.compile(r"\b(?:good (?:morning|afternoon|evening|night)|how are you (?:today|doing))\b")

_STOP = """
    a about above after again against all alright also am amazing an and any anyone anything are aren as at
    awesome be because been before being below between both but by bye can cannot cool could couldn d did didn
    do does doesn doing don down during each else ever every few fine for from further get gets getting give
    glad go goes going gonna good goodbye got great ha had hadn haha has hasn have haven having he hello help
    her here hers herself hey hi him himself his how i if in interesting into is isn it its itself just know let
    like ll lol m many may maybe me might mine more most much must my myself nice no nor not now of off oh ok
    okay on once one only or other our ours ourselves out over own please re really s same shall she
    should shouldn so some someone something sorry sounds still such sure t tell than thank thanks that the
    their theirs them themselves then there these they thing things this those through thx to too under until up
    us ve very was wasn way we welcome well were weren what when where which while who whom whose why will with
    won would wouldn wow yeah yes yet you your yours yourself
"""
STOP_WORDS = frozenset(_STOP.split())


def terms(text: str) -> list[str]:
    """The words of a text that carry content, lower-cased, each once, in order; at most `MAX_TERMS`."""
    found: dict[str, None] = {}
    for word in _WORD.findall(_GREETING.sub(" ", text.casefold())):
        if word not in STOP_WORDS and (len(word) > 1 or not word.isascii() or word.isdigit()):
            found.setdefault(word)
    return list(found)[:MAX_TERMS]


@dataclass(frozen=True)
class Term:
    """A content word of a question, all its forms, and what it weighs beside others."""

    word: str
    forms: tuple[str, ...]
    emphasis: float = 1.0


def looked_up(text: str) -> list[Term]:
    """The content words of a question, each in all its forms."""
    said = _WORD.findall(text)
    # the first word of a sentence is written large whatever it is
    names = {word.casefold() for word in _NAME_WITHIN.findall(text)}
    stressed = names | {word.casefold() for word in said if any(letter.isdigit() for letter in word)}
    return [Term(word, (word, *forms_of(word)), EMPHASIS if word in stressed else 1.0) for word in terms(text)]


def rarity(holding: int, memories: int) -> float:
    """BM25's inverse document frequency, in nats, of a word that `holding` of a bank's `memories` have."""
    total = memories + IMAGINED
    return math.log1p((total - holding + 0.5) / (holding + 0.5))


def weight(holding: int, memories: int) -> float:
    """What a shared word weighs in the ranking: its rarity squared, over `UNIT`."""
    return rarity(holding, memories) ** 2 / UNIT


def words_of(text: str) -> list[str]:
    """All words of a text, case-folded, in order."""
    return _WORD.findall(text.casefold())
