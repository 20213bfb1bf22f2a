"""From one way to say something to many, and what of them training never sees.

"Where did I park the car?" is also "Do you remember where I parked the car?". One in eight of all phrasings is held
out by a checksum, like the names of `words`: those are the unseen phrasings of the figures. The lines that `facts.txt`
calls "free" are further off, in words that nothing in training pairs with the answer, and are measured apart.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from .words import one_in_eight

# how often a line is taken as it is written
_PLAIN = 0.4

_INDIRECT = (
    "Do you know {}?", "Do you remember {}?", "Tell me {}.", "Can you tell me {}?", "I forgot {}.",
    "I would like to know {}.", "Please tell me {}.", "Have I told you {}?", "Can you remember {}?", "Remind me {}.",
)  # fmt: skip
_NOUN = (
    "Tell me {}.", "Remind me of {}.", "I need {}.", "Do you know {}?", "Do you remember {}?", "{}, please.",
    "I forgot {}.", "Can you tell me {}?", "{}?",
)  # fmt: skip
_THAT = (
    "You should know that {}.", "Remember that {}.", "Please note that {}.", "I want you to know that {}.",
    "Don't forget that {}.", "Keep in mind that {}.", "I must tell you that {}.", "It is true that {}.",
)  # fmt: skip
_AFTER = (", by the way.", ", as you should know.", ", and that is all.", ", I think.")
_PAST = {
    "park": "parked",
    "put": "put",
    "leave": "left",
    "buy": "bought",
    "lend": "lent",
    "give": "gave",
    "pay": "paid",
}
_THIRD = {"have": "has", "do": "does", "go": "goes"}
_LAST = "called|parked|due|born"


@dataclass
class Phrasings:
    """Ways to say one thing: `seen` has one list a line of the file, the line itself first."""

    seen: list[list[str]] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    free: list[str] = field(default_factory=list)

    def add(self, variants: list[str]) -> None:
        """A line and what follows from it."""
        self.seen.append([variants[0], *(one for one in variants[1:] if not one_in_eight(one))])
        # two lines may lead to one phrasing, and the first of each is seen whatever its checksum
        known = self._known()
        self.unseen = [
            one for one in dict.fromkeys([*self.unseen, *variants[1:]]) if one_in_eight(one) and one not in known
        ]

    def add_free(self, line: str) -> None:
        if line not in self._known():
            self.free.append(line)

    def _known(self) -> set[str]:
        return {one for line in self.seen for one in line}

    def pick(self, rng: random.Random, which: str) -> str:
        """One of the "seen", "unseen" or "free" ones; an unseen one where nothing is free."""
        if which == "free" and self.free:
            return rng.choice(self.free)
        if which != "seen":
            return rng.choice(self.unseen)
        line = rng.choice(self.seen)
        return line[0] if rng.random() < _PLAIN else rng.choice(line)


def asked(line: str) -> list[str]:
    """The question and others of the same meaning."""
    found = [line]
    if not line.endswith("?"):
        return found
    indirect = _indirect(line[:-1])
    if indirect:
        found += [frame.replace("{}", indirect) for frame in _INDIRECT]
    contracted = re.sub(r"^(What|Who|When|Where) is ", r"\1's ", line)
    noun = re.fullmatch(r"What is ((?:my|the|\{who\}).*)\?", line)
    if noun and noun[1].split()[-1] not in _LAST.split("|"):
        found += [frame.replace("{}", noun[1]) for frame in _NOUN]
    return list(dict.fromkeys([*found, contracted]))


def _indirect(question: str) -> str:
    """ "where I parked the car", from "Where did I park the car"; nothing where no rule fits."""
    rules = (
        (rf"(What|Who|When|Where) (is|are|was) (.+) ({_LAST})", lambda m: f"{m[1]} {m[3]} {m[2]} {m[4]}"),
        (r"(What|Who|When|Where) (is|are|was) (?!it )(.+)", lambda m: f"{m[1]} {m[3]} {m[2]}"),
        (r"(.+?) do I (.+)", lambda m: f"{m[1]} I {m[2]}"),
        (r"(.+?) (am|must|can) I (.+)", lambda m: f"{m[1]} I {m[2]} {m[3]}"),
        (r"(.+?) did I (\w+)(.*)", lambda m: f"{m[1]} I {_PAST.get(m[2], m[2])}{m[3]}"),
        (
            r"(.+?) does (\{who\}|my train|my \{k\}|the \{k\}(?: wifi)?) (\w+)(.*)",
            lambda m: f"{m[1]} {m[2]} {_THIRD.get(m[3], m[3] + 's')}{m[4]}",
        ),
        (r"Who (?!is|am|do|did)(.+)", lambda m: f"who {m[1]}"),
    )
    for pattern, turned in rules:
        match = re.fullmatch(pattern, question)
        if match:
            text = turned(match)
            return text[:1].lower() + text[1:]
    return ""


def told(line: str) -> list[str]:
    """The statement and others of the same meaning."""
    found = []
    for text in (line, line.replace(" is ", " is now ", 1)):
        bare = text.rstrip(".")
        inside = bare if bare.startswith(("I ", "I'", "{")) else bare[:1].lower() + bare[1:]
        found += [text, *(frame.replace("{}", inside) for frame in _THAT), *(bare + end for end in _AFTER)]
    return list(dict.fromkeys(found))
