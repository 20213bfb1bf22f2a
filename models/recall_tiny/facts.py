"""A fact: what is told, how it can be asked for, and the one right answer; the kinds themselves are in `kinds`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .words import PETS, RELATIONS, Words

UNKNOWN = "I don't know. You have not told me that yet."
NOTED = "Got it, I will remember that."
_ARTICLE = re.compile(r"\ba(?= [aeiou])")


@dataclass(frozen=True)
class Ask:
    """Ways to ask for one thing, the answer, and ways that training never sees."""

    answer: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of fact.

    Attributes:
        slots: what fills each name in the templates.
        key: the slots that make it another fact of the same kind ("the code of …"), by name; none: there is one.
        about: the fact in a few words, as in "When did I tell you about …?".
    """

    name: str
    slots: dict[str, Callable[[Words], str]]
    key: tuple[str, ...]
    about: str
    tells: tuple[str, ...]
    unseen_tells: tuple[str, ...]
    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Fact:
    """One fact with its slots filled."""

    kind: Kind
    values: dict[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        """Two facts with one key answer the same question: the newer holds."""
        return (self.kind.name, *(self.values[slot].lower() for slot in self.kind.key))

    def tell(self, words: Words, unseen: bool = False) -> str:
        """The fact as a person would say it."""
        template = words.rng.choice(self.kind.unseen_tells if unseen else self.kind.tells)
        return sentence(template.format_map(self.values))

    def ask(self, words: Words, unseen: bool = False) -> tuple[str, str]:
        """A question and its answer."""
        ask = words.rng.choice(self.kind.asks)
        template = words.rng.choice(ask.unseen if unseen else ask.seen)
        return sentence(template.format_map(self.values)), sentence(ask.answer.format_map(self.values))

    def about(self) -> str:
        return self.kind.about.format_map(self.values)


def sentence(text: str) -> str:
    """With a capital at its start, and "an" where "a" will not do."""
    text = _ARTICLE.sub("an", text)
    return text[:1].upper() + text[1:]


def make(kind: Kind, words: Words, keep: dict[str, str] | None = None) -> Fact:
    """A fact of this kind; `keep` are slots that are given, as another fact's key."""
    values = {slot: fill(words) for slot, fill in kind.slots.items()}
    values |= keep or {}
    for slot in kind.slots:
        if slot == "who":
            # "my sister" to the person is "your sister" to the model
            values["yo"] = mirrored(values[slot])
    return Fact(kind, values)


def mirrored(phrase: str) -> str:
    return "your" + phrase[2:] if phrase.startswith("my ") else phrase


def person(words: Words) -> str:
    """ "my sister", or somebody's name."""
    return f"my {words.pick(RELATIONS)}" if words.rng.random() < 0.6 else words.name()


def named_person(words: Words) -> str:
    """Somebody in full: "Tomasz", "my neighbour Tomasz", "Mrs Okafor"."""
    if words.rng.random() < 0.4:
        return f"my {words.pick(RELATIONS)} {words.name()}"
    return words.full_name()


def kin(words: Words) -> str:
    """What can be called something: relations and pets."""
    return words.pick(RELATIONS) if words.rng.random() < 0.65 else words.pick(PETS)
