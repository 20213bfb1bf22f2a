"""Whom a question is about, among those who speak in a namespace."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from membank_llama.core.letters import RUN, WORD, composed, folded, unaccented
from membank_llama.store.namespace_snapshot import NamespaceSnapshot

from .query_terms import terms

_WORD = re.compile(r"[^\W_]+(?:[.'’-][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s?\Z")
_OWN = re.compile(r"\b(?:i|me|my|mine|myself|we|our|us)\b", re.IGNORECASE)
_ASKED = re.compile(r"\b(?:did|do|have|had|would|were|what|which)\b", re.IGNORECASE)
_YOU_SAY = re.compile(
    r"\byou (?:\w+ )?(?:say|said|tell|told|suggest|suggested|recommend|recommended|mention|mentioned|propose|proposed|"
    r"explain|explained|list|listed|advise|advised|call|called)\b",
    re.IGNORECASE,
)
_YOURS = re.compile(
    r"\byou (?:said|told|suggested|recommended|mentioned|proposed|explained|listed|advised)\b|"
    r"\byour (?:suggestion|recommendation|advice|answer|list|proposal|explanation)s?\b",
    re.IGNORECASE,
)
_OUR_TALK = re.compile(
    r"\b(?:our|the) (?:previous|earlier|last|other) (?:conversation|chat|discussion|talk|session)s?\b"
    r"|\bwe (?:have |had |'ve )?(?:talked|spoke|spoken|discussed|chatted|came up|come up)\b"
    r"|\bremind me (?:what|which|how) you\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.?!]")


def asks_assistant(text: str) -> bool:
    """Whether a text asks for what the assistant said: "what did you suggest", "your advice"."""
    if _YOURS.search(text):
        return True
    for sentence in _SENTENCE_END.split(text):
        asked = _ASKED.search(sentence)
        if asked and _YOU_SAY.search(sentence, asked.end()):
            return True
    return False


def asks_for_replies(text: str) -> bool:
    """Whether a text asks for what was answered, be it the model's or of the talk as a whole."""
    return asks_assistant(text) or bool(_OUR_TALK.search(text))


@dataclass(frozen=True)
class Mentions:
    """Whom a question names of those who speak in a namespace, as they are written there, and the numbers of those
    whose own words it is about: none where that is several or nobody."""

    names: tuple[str, ...] = ()
    about: frozenset[int] = frozenset()

    @property
    def words(self) -> frozenset[str]:
        """The words of the names, as the question's words are compared."""
        return frozenset(part for name in self.names for part in unaccented(folded(name)).split())


NOBODY = Mentions()


def mentions_in(text: str, snapshot: NamespaceSnapshot) -> Mentions:
    """Whom a text mentions: those whose name, or the first word of it, stands in it.

    It is about the one who is named; else about the user for "I" and "my", and about the assistant for "did you
    suggest" and "your advice".
    """
    names = _named(text, snapshot.names) if snapshot.names else ()
    if names:
        return Mentions(names, frozenset({snapshot.speakers[names[0]]}) if len(names) == 1 else frozenset())
    if asks_assistant(text):
        roles: tuple[str, ...] = ("assistant", "ai", "model", "bot")
    elif _OWN.search(text):
        roles = ("user", "human")
    else:
        return NOBODY
    # "Assistant: …" in a transcript is the assistant too
    found = frozenset(number for name, number in snapshot.speakers.items() if folded(name) in roles)
    # where only one side speaks, that says nothing
    return Mentions(about=found if len(found) < len(snapshot.speakers) else frozenset())


def _named(text: str, names: Sequence[str]) -> tuple[str, ...]:
    text = composed(text)
    said = {_POSSESSIVE.sub("", word) for word in _WORD.findall(text)}
    if not text.isascii():
        # with the marks that some scripts write vowels with
        said.update(WORD.findall(text))
    return tuple(name for name in names if _is_said(composed(name), said, text))


def _is_said(name: str, said: set[str], text: str) -> bool:
    return name in said or name.split()[0] in said or (RUN.fullmatch(name) is not None and name in text)


def without_names(text: str, names: Sequence[str]) -> str:
    """A question without the names of those who speak: nearly every memory is theirs, so a name in the question only
    draws its vector towards whatever holds the name. The text itself where no content word would remain."""
    text, names = composed(text), [composed(name) for name in names]
    words = sorted({part for name in names for part in (name, name.split()[0])}, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?:['’]s?)?(?!\w),?")
    rest = " ".join(pattern.sub(" ", text).split())
    return rest if terms(rest) else text
