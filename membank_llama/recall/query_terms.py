"""From a question to the words that are looked up.

Words that carry no content are left out, greetings and thanks among them. Stemming is FTS5's own (Porter), the same
for questions and memories (store/full_text.py); what it cannot bring together, `FAMILIES` does. Scripts without spaces
are looked up by pairs of letters (unspaced_terms.py). What each weighs in a namespace stands in word_weights.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from membank_llama.core.letters import RUN, WORD, composed, folded, spaced, unaccented
from membank_llama.core.stop_words import STOP_WORDS
from membank_llama.core.types import Vector

from .unspaced_terms import pairs_asked

MAX_TERMS = 24

_NO_NAMES = """
    a an and any are at but by can do does did for from had has have he her his how i if in is it its let my no not of
    on or our she so the their they this that to was we were what when where which who why with you your
"""
NO_NAMES = frozenset(_NO_NAMES.split())
"""Stop words that titles and quotations write large, and that are nobody's name."""

EMPHASIS = 1.3
"""What a name or a number weighs beside other words."""

UNIT = 7.0
"""Divides squared inverse document frequencies, so that a word of one memory in a small bank weighs about 7."""

IMAGINED = 1000
"""Memories a bank is thought to hold beside its own, with as many of the word as people say it in (common_words.py): in
a bank of three, "in one of three" says nothing of how rare a word is. Costs nothing on large banks (turn R@5 .613
without, .609 with)."""

FEW_KNOWN = 200
"""Memories at which a bank's own counts and those of people in general weigh the same."""

_NAME_WITHIN = re.compile(r"(?<=[\w,;:'’] )[^\W\d_a-z][^\W_]*")
_GREETING = re.compile(r"\b(?:good (?:morning|afternoon|evening|night)|how are you (?:today|doing))\b")


# a family a piece: everyday words whose forms mean the same and no stemmer brings together, and none that Porter cuts
# down to a word without content ("ate" to "at", "one" to "on")
_FAMILIES = """
    become became / begin began begun / bend bent / bite bit bitten / blow blew blown / break broke broken /
    bring brought / build built / buy bought / catch caught / choose chose chosen / come came / deal dealt / dig dug /
    draw drew drawn / dream dreamt / drink drank drunk / drive drove driven / eat eaten / fall fell fallen /
    feed fed / feel felt / fight fought / find found / fly flew flown / forget forgot forgotten /
    forgive forgave forgiven / freeze froze frozen / give gave given / grow grew grown / hang hung / hear heard /
    hide hid hidden / hold held / keep kept / know knew known / lead led / learn learnt / leave left / lend lent /
    lose lost / make made / mean meant / meet met / pay paid / ride rode ridden / ring rang rung / rise rose risen /
    run ran / say said / see saw seen / sell sold / send sent / sew sewn / shake shook shaken / shine shone /
    shoot shot / show shown / sing sang sung / sink sank sunk / sit sat / sleep slept / speak spoke spoken speech /
    spend spent / stand stood / steal stole stolen / stick stuck / strike struck / swear swore sworn / sweep swept /
    swim swam swum / swing swung / take took taken / teach taught / tear tore torn / tell told /
    think thought thoughts /
    throw threw thrown / understand understood / wake woke woken / wear wore worn / win won / write wrote written /
    child children kid kids / man men / woman women / person people / foot feet / tooth teeth / mouse mice /
    wife wives / life lives / knife knives / leaf leaves / mother mom mum mama / father dad papa /
    grandmother grandma granny / grandfather grandpa / photo photograph picture / movie film / bike bicycle /
    tv television / phone telephone / fridge refrigerator / marry marriage wedding / die death dead /
    birth born / choice choose / flight fly / gift present / begin start /
    two 2 / three 3 / four 4 / five 5 / six 6 / seven 7 / eight 8 / nine 9 / ten 10 / twelve 12
"""


def _families() -> dict[str, tuple[str, ...]]:
    members: dict[str, dict[str, None]] = {}
    for line in _FAMILIES.split("/"):
        family = line.split()
        for word in family:
            members.setdefault(word, {}).update(dict.fromkeys(family))
    return {word: tuple(other for other in family if other != word) for word, family in members.items()}


FAMILIES = _families()


def terms(text: str) -> list[str]:
    """The words of a text that carry content, folded and without accents, each once, in order; at most `MAX_TERMS`."""
    names = _names_within(text)
    words = WORD.findall(spaced(_GREETING.sub(" ", folded(text))))
    found: dict[str, None] = {}
    for step in (1, 2):
        found = dict.fromkeys(term for word in words for term in _content(word, names, step))
        if len(found) <= MAX_TERMS:
            break
    return list(found)[:MAX_TERMS]


def _content(word: str, names: set[str], step: int) -> list[str]:
    """What of a word is looked up: itself, pairs of its letters, or nothing."""
    if RUN.match(word):
        return pairs_asked(word, step=step)
    says = (word not in STOP_WORDS or word in names) and (len(word) > 1 or not word.isascii() or word.isdigit())
    return [word if word.isascii() else unaccented(word)] if says else []


def _names_within(text: str) -> set[str]:
    """Stop words that are somebody's name or something's, lower-cased: Will, May, a bar called The Mine. The first word
    of a sentence is written large whatever it is."""
    found = [word for word in _NAME_WITHIN.findall(text) if word.istitle()]
    return (set(folded(" ".join(found)).split()) & STOP_WORDS) - NO_NAMES


@dataclass(frozen=True)
class Term:
    """A content word of a question, all its forms, and what it weighs beside others."""

    word: str
    forms: tuple[str, ...]
    emphasis: float = 1.0


def looked_up(text: str) -> list[Term]:
    """The content words of a question, each in all its forms."""
    text = composed(text)
    # the first word of a sentence is written large whatever it is; Arabic and Devanagari write nothing large
    names = {word for word in _NAME_WITHIN.findall(text) if word[0].isupper()}
    numbers = {word for word in WORD.findall(spaced(text)) if any(letter.isdigit() for letter in word)}
    stressed = set(unaccented(folded(" ".join(names | numbers))).split())
    return [Term(word, (word, *forms_of(word)), EMPHASIS if word in stressed else 1.0) for word in terms(text)]


def rarities(holding: npt.NDArray[Any], memories: int, background: Sequence[float] = ()) -> Vector:
    """BM25's inverse document frequency, in nats, of words that so many of a bank's `memories` have, shape ``(n,)``.

    Args:
        background: of a thousand memories in general how many have each; by default none.
    """
    total = memories + IMAGINED
    if len(background):
        # a larger bank knows by itself
        holding = holding + np.array(background) * (FEW_KNOWN / (FEW_KNOWN + memories))
    rare: Vector = np.log1p((total - holding + 0.5) / (holding + 0.5)).astype(np.float32)
    return rare


def forms_of(word: str) -> tuple[str, ...]:
    """The other members of a word's family, given in lower case, with or without a plural's or verb's ending."""
    for stem in (word, word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ing")):
        if stem in FAMILIES:
            return FAMILIES[stem]
    if word.endswith("ing"):
        # "making" → "make", "running" → "run"
        stem = word[:-3]
        for other in (stem + "e", stem[:-1] if stem[-1:] == stem[-2:-1] else stem):
            if other in FAMILIES:
                return FAMILIES[other]
    return ()
