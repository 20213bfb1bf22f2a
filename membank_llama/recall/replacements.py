"""Which of some statements a later one has replaced: "My desk is in room 12", and then "My desk moved to room 40".

No model is asked. Two statements of the same people are about the same thing where they share what they are about and
differ in what they say of it: in the words behind the same beginning, where it says what is and not what was done; or
where the later one says that something has changed. Both stay what they are: that one replaces the other is only how
they are shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from membank_llama.core.letters import folded
from membank_llama.core.stop_words import STOP_WORDS
from membank_llama.store.full_text import filed_as

MOST_COMPARED = 32
SAME_WORDS = 3
"""Words in a row that two statements share where they are about the same thing."""
LONGEST = 240
"""Characters of a statement that is compared; what is longer says more than one thing."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_PEOPLE = {
    **dict.fromkeys(("i", "i'm", "i've", "i'd", "me", "my", "mine", "myself"), "i"),
    **dict.fromkeys(("we", "we're", "we've", "us", "our", "ours"), "i"),
    **dict.fromkeys(("he", "he's", "him", "his"), "he"),
    **dict.fromkeys(("she", "she's", "her", "hers"), "she"),
    **dict.fromkeys(("they", "they're", "them", "their"), "they"),
}
_CHANGES = re.compile(
    r"\b(?:no longer|not (?:\w+ ){0,3}any ?more|any ?more|instead|from now on|these days|nowadays"
    r"|since (?:then|last|this|\w+day|january|february|march|april|may|june|july|august|september|october|november"
    r"|december)|as of|moved|changed|switched|renamed|postponed|rescheduled|replaced|swapped|traded|sold|quit"
    r"|cancell?ed|gave up|stopped|used to|now|turned out|actually|correction|i meant|in fact|wrong about|after all"
    r"|again"
    r"|nicht mehr|jetzt|stattdessen|umgezogen|ne \w{1,20} plus|maintenant|désormais|ya no"
    r"|ahora|agora|não \w{1,20} mais)\b"
    r"|現在|现在|今は|不再|改成|搬到",
    re.IGNORECASE,
)
_NEW = re.compile(r"\bnew (\w+)", re.IGNORECASE)
_OF_ONE = frozenset({"my", "our", "the", "his", "her", "their", "your"})
_IS = frozenset({"is", "are", "costs", "cost", "starts", "start", "begins", "leaves", "weighs", "opens", "closes"})
_HABITS = frozenset(
    {
        "live", "lives", "living", "work", "works", "working", "drink", "drinks", "drive", "drives", "prefer",
        "prefers", "use", "uses", "park", "sleep", "sleeps", "study", "studies", "train", "trains", "wake", "wakes",
    }
)  # fmt: skip
"""Verbs of what is so until it changes, and of one thing at a time."""
_TURNING = frozenset({"move", "chang", "switch", "now", "new", "sold"})
"""Stems of words that say that something changes, and not to what."""
_ENDS = re.compile(
    r"\b(?:no longer|any ?more|quit|stopped|g(?:a|i)ve up|instead of|nicht mehr|ya no|ne \w{1,20} plus)\b|不再",
    re.IGNORECASE,
)
_SAME_THING = tuple(
    frozenset(group.split())
    for group in (
        "live lives living lived move moved moving reside stay staying flat apartment house home city town",
        "work works working worked job employer company position join joined start started hired",
        "drive drives driving",
        "doctor dentist gp physician",
        "phone number mobile telephone",
    )
)


@dataclass(frozen=True)
class Statement:
    """A text and when it was said; `known`: by a person, so that it can replace another's; `first_told_at`: when it
    came first, where it was told more than once."""

    text: str
    told_at: float
    known: bool = True
    first_told_at: float | None = None

    @cached_property
    def reading(self) -> _Read | None:
        """Its words; None where it has none, or is too long to be compared."""
        return _read_text(self.text) if len(self.text) <= LONGEST else None

    def came_before(self, other: Statement) -> bool:
        """Whether it was told before another one already, and again after it."""
        return self.first_told_at is not None and self.first_told_at < other.told_at < self.told_at


def says_change(text: str) -> bool:
    """Whether a text says of something that it has changed: "I drive a Skoda now"."""
    return len(text) <= LONGEST and bool(_CHANGES.search(text))


def replaced(statements: Sequence[Statement]) -> dict[int, int]:
    """Of some statements those that a later one replaces: their places, and the place of the newest that does."""
    order = sorted(range(min(len(statements), MOST_COMPARED)), key=lambda place: statements[place].told_at)
    found: dict[int, int] = {}
    for n, older in enumerate(order):
        for newer in order[n + 1 :]:
            if replaces(statements[older], statements[newer]):
                found[older] = newer
    return found


def replaces(older: Statement, newer: Statement) -> bool:
    """Whether one statement replaces another."""
    if newer.told_at <= older.told_at or newer.known < older.known:
        return False
    first, second = older.reading, newer.reading
    if first is None or second is None:
        return False
    return _replaces(first, second) or (newer.came_before(older) and _says_changed(second, first))


@dataclass(frozen=True)
class _Read:
    text: str
    words: tuple[str, ...]
    people: frozenset[str]

    @cached_property
    def content(self) -> frozenset[str]:
        """Stems of what it is about. Found word by word, so asked for last."""
        about = {word for word in self.words if word not in STOP_WORDS and word not in _PEOPLE}
        return frozenset(stem for word in about for stem in filed_as(word))

    @cached_property
    def changes(self) -> bool:
        """Whether it says that something has changed."""
        return bool(_CHANGES.search(self.text))

    @cached_property
    def says_new(self) -> bool:
        """Whether either is so."""
        return self.changes or bool(self.renews)

    @cached_property
    def renews(self) -> tuple[str, ...]:
        """What it says is new: "my new phone"."""
        return tuple(map(folded, _NEW.findall(self.text)))


@lru_cache(maxsize=4096)
def _read_text(text: str) -> _Read | None:
    words = tuple(word.replace("’", "'") for word in _WORD.findall(folded(text)))
    people = frozenset(_PEOPLE[word] for word in words if word in _PEOPLE)
    return _Read(text, words, people) if words else None


def _replaces(older: _Read, newer: _Read) -> bool:
    begin_alike = older.words[:SAME_WORDS] == newer.words[:SAME_WORDS]
    if not (begin_alike or newer.says_new or older.says_new):
        return False
    if not (older.content - newer.content - _TURNING or _ENDS.search(newer.text)):
        # the later one says all that the other does
        return False
    return _same_beginning(older, newer) or _says_changed(older, newer) or _says_back(older, newer)


def _same_beginning(older: _Read, newer: _Read) -> bool:
    """Whether both say of the same thing what it is, in the same words but for the last ones."""
    shared = 0
    for first, second in zip(older.words, newer.words, strict=False):
        if first != second:
            break
        shared += 1
    begin, rest = older.words[:shared], min(len(older.words), len(newer.words)) - shared
    if shared < SAME_WORDS or not 0 < rest <= shared + 2:
        return False
    if begin[0] in _OF_ONE and not _IS.isdisjoint(begin):
        return any(word not in STOP_WORDS and word not in _PEOPLE for word in begin)
    return not _HABITS.isdisjoint(begin)


def _says_changed(older: _Read, newer: _Read) -> bool:
    """Whether the later one says that what the other is about has changed."""
    if not (newer.changes or any(word in older.words for word in newer.renews)):
        return False
    about = older.content & newer.content
    if older.people != newer.people:
        # "The meeting is on Monday", "We moved the meeting": whose it is says nothing
        return not older.people and bool(about) and older.words[0] in _OF_ONE and _about_subject(older, newer)
    if not older.people and older.words[0] not in newer.words:
        return False
    if not (_about_subject(older, newer) and _about_subject(newer, older)):
        return False
    if len(about) > 1 or any(_holds(group, older) and _holds(group, newer) for group in _SAME_THING):
        return True
    habit = any(word in _HABITS and word in newer.words for word in older.words)
    return bool(about) and (habit or _longest_run(older.words, newer.words) >= SAME_WORDS)


def _longest_run(first: Sequence[str], second: Sequence[str]) -> int:
    """How many words stand in both in the same order without another between them, at most."""
    longest, row = 0, [0] * (len(second) + 1)
    for word in first:
        row = [0, *(row[n] + 1 if word == other else 0 for n, other in enumerate(second))]
        longest = max(longest, *row)
    return longest


def _says_back(older: _Read, newer: _Read) -> bool:
    """Whether the other one was such a change, and the later one says plainly what is so again."""
    plain = newer.words[0] in _OF_ONE or not _HABITS.isdisjoint(newer.words[:3])
    return plain and len(older.content & newer.content) > 1 and _says_changed(newer, older)


def _about_subject(one: _Read, other: _Read) -> bool:
    """Whether what one begins with, "my sister", "our new car", stands in the other too."""
    if one.words[0] not in _OF_ONE:
        return True
    subject = next((word for word in one.words[1:] if word not in STOP_WORDS and word != "new"), "")
    if not subject or subject in other.words or not other.content.isdisjoint(filed_as(subject)):
        return True
    return any(subject in group and _holds(group, other) for group in _SAME_THING)


def _holds(group: frozenset[str], statement: _Read) -> bool:
    return any(word in group for word in statement.words)
