"""A fact: what is told, how it can be asked for, and the one right answer. The kinds are read from `facts.txt`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from . import phrasings
from .phrasings import Phrasings
from .words import Words

_ARTICLE = re.compile(r"\ba(?= [aeiou])")
_PATH = Path(__file__).with_name("facts.txt")
# "my sister" told as "my sister Ana", and then now and then asked so; never asked by a name that was not told
_NAMED, _NAMED_TOLD, _NAMED_ASKED = 0.25, 1.0, 0.3


@dataclass
class Ask:
    """Ways to ask for one thing, and the answer."""

    answer: str
    ways: Phrasings = field(default_factory=Phrasings)


@dataclass
class Kind:
    """One kind of fact.

    Attributes:
        slots: what fills each name in the templates; see `Words.fill`.
        key: the slots that make it another fact of the same kind ("the code of …"); none: there is one.
        about: the fact in a few words, as in "When did I tell you about …?".
    """

    name: str
    slots: dict[str, str] = field(default_factory=dict)
    key: list[str] = field(default_factory=list)
    about: str = ""
    tells: Phrasings = field(default_factory=Phrasings)
    asks: list[Ask] = field(default_factory=list)

    def take(self, label: str, text: str) -> None:
        """One line of the kind's section.

        Raises:
            ValueError: no line begins so.
        """
        slot = re.fullmatch(r"slot (\w+)", label)
        if slot:
            self.slots[slot[1]] = text.removesuffix(" *")
            if text.endswith(" *"):
                self.key.append(slot[1])
        elif label == "about":
            self.about = text
        elif label == "answer":
            self.asks.append(Ask(text))
        elif label == "tell":
            self.tells.add(phrasings.told(text))
        elif label == "tell free":
            self.tells.add_free(text)
        elif label == "ask":
            self.asks[-1].ways.add(phrasings.asked(text))
        elif label == "ask free":
            self.asks[-1].ways.add_free(text)
        else:
            raise ValueError(f"{_PATH.name}: {label!r} is no part of a kind")


def read_kinds(path: Path = _PATH) -> list[Kind]:
    """All kinds of facts, in the order of the file."""
    kinds: list[Kind] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            kinds.append(Kind(line[3:]))
        elif line and not line.startswith("#"):
            label, text = line.split(": ", 1)
            kinds[-1].take(label, text)
    return kinds


@dataclass(frozen=True)
class Fact:
    """One fact with its slots filled; `named` is the name of a "my sister", where she is told by it."""

    kind: Kind
    values: dict[str, str]
    named: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """Two facts with one key answer the same question: the newer holds."""
        return (self.kind.name, *(self.values[slot].lower() for slot in self.kind.key))

    def tell(self, words: Words, which: str = "seen") -> str:
        """The fact as a person would say it, in a "seen", "unseen" or "free" phrasing."""
        template = self.kind.tells.pick(words.rng, which)
        return sentence(template.format_map(self._values(words, _NAMED_TOLD)))

    def ask(self, words: Words, which: str = "seen") -> tuple[str, str]:
        """A question, in such a phrasing, and its answer."""
        ask = words.rng.choice(self.kind.asks)
        template = ask.ways.pick(words.rng, which)
        asked = template.format_map(self._values(words, _NAMED_ASKED))
        return sentence(asked), sentence(ask.answer.format_map(self.values))

    def about(self) -> str:
        return self.kind.about.format_map(self.values)

    def _values(self, words: Words, often: float) -> dict[str, str]:
        if not self.named or words.rng.random() >= often:
            return self.values
        return {**self.values, "who": f"{self.values['who']} {self.named}"}


def sentence(text: str) -> str:
    """With a capital at its start, and "an" where "a" will not do."""
    text = _ARTICLE.sub("an", text)
    return text[:1].upper() + text[1:]


def make(kind: Kind, words: Words, keep: dict[str, str] | None = None) -> Fact:
    """A fact of this kind; `keep` are slots that are given, as another fact's key."""
    values = {slot: words.fill(filler) for slot, filler in kind.slots.items()}
    values |= keep or {}
    named = ""
    if "who" in values:
        values["yo"] = mirrored(values["who"])
        relation = values["who"].startswith("my ") and len(values["who"].split()) == 2
        if relation and "who" in kind.key and words.rng.random() < _NAMED:
            named = words.name()
    return Fact(kind, values, named)


def mirrored(phrase: str) -> str:
    """ "my sister" to the person is "your sister" to the model."""
    return "your" + phrase[2:] if phrase.startswith("my ") else phrase
