"""Conversations to learn from: facts in memory blocks and in the window, questions with and without an answer.

The block is the one that `membank_llama.memory.prompt_block` writes, so that the model reads in training what it will
read in use: dates, roles, the assistant's own acknowledgements, questions that were asked before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from membank_llama.gguf.builtin import NOTED, UNKNOWN
from membank_llama.memory.prompt_block import Excerpt, build_block

from .facts import Fact, make, read_kinds
from .words import Words

KINDS = read_kinds()
ASK_FRAMES = (
    "Do you remember? {}",
    "Quick question: {}",
    "I forgot. {}",
    "Tell me, {lower}",
    "Hey, {lower}",
    "{} Please tell me.",
    "Remind me: {lower}",
    "Sorry, {lower}",
    "One more thing: {lower}",
    "Hello! {}",
    "Hi! {}",
    "And {lower}",
    "So {lower}",
    "Well, {lower}",
    "Let me ask: {lower}",
    "I would like to know: {lower}",
    "Do you know? {}",
    "{} I forgot.",
    "{} Do you remember?",
)
UNSEEN_ASK_FRAMES = ("I have a question. {}", "Please help me, {lower}")
TELL_FRAMES = (
    "Please remember: {}",
    "Remember this: {}",
    "Note this down. {}",
    "By the way, {lower}",
    "Just so you know, {lower}",
    "Hello! {}",
    "{} Please remember that.",
    "{} Keep that in mind.",
    "One more thing: {lower}",
    "You should know this: {}",
)
UNSEEN_TELL_FRAMES = ("Here is something to keep: {}", "{} That is good to know.")
SMALL_TALK = (
    (("Hello!", "Hi!", "Hello.", "Hey there!", "Good morning!", "Good evening!", "Hi", "hello"),
     "Hello! Tell me something to remember, or ask me about it."),
    (("Thanks!", "Thank you!", "Thank you very much.", "Thanks a lot.", "thanks"), "You are welcome."),
    (("How are you?", "How are you today?", "How's it going?"), "I am well, thank you."),
    (("Bye!", "Goodbye!", "Good night!", "See you later!", "bye"), "Goodbye! I will remember what you told me."),
    (("Who are you?", "What are you?", "What is your name?", "What can you do?", "Are you a robot?"),
     "I am a tiny model that shows what memory does. Tell me something and ask me later."),
    (("OK.", "Good.", "Nice!", "Great!", "All right.", "ok", "I see."), "Is there anything else to remember?"),
)  # fmt: skip
ELSEWHERE = (
    "What is the capital of {}?", "Who wrote the book {}?", "How far is it to {}?", "What is the weather in {}?",
    "Can you tell me a story?", "How do planes fly?", "What time is it?", "Who won the match in {}?", "Who is {}?",
    "What does {} mean?", "Where is {}?", "How many people live in {}?", "What should I cook today?",
    "Why is the sky blue?",
)  # fmt: skip
SYSTEM = (
    "You are a helpful assistant.",
    "You are a friendly assistant with a memory.",
    "Answer briefly.",
    "You are a helpful assistant. Answer from the notes.",
)
YEAR = 31_557_600.0
REPEAT = ("Repeat after me: {}", "Say this: {}", "Please say: {}", "Repeat: {}")


@dataclass(frozen=True)
class Turn:
    """One message."""

    role: str
    content: str


def block_of(lines: list[Excerpt]) -> str:
    """The block as it is put ahead of a user's message, within the year after its last line."""
    last = max((line.created_at for line in lines), default=0.0)
    return build_block(lines, 1 << 30, len, lambda text: text, now=last + last % YEAR).text


class Dialogues:
    """Yields conversations.

    Args:
        words: fills the slots; its generator is the only source of chance.
        ease: 1.0 for short conversations with little to look through, 0.0 for the full range.
        updates: more facts that were told before with another value, and more questions about those; which of two
            values is the newer is the last thing that is learned, and the rarest to meet by chance.
    """

    def __init__(self, words: Words, ease: float = 0.0, updates: bool = False) -> None:
        self.words = words
        self.rng = words.rng
        self.ease = ease
        self.updates = updates
        self._updated: list[Fact] = []

    # -- pieces

    def fact(self, keep: Fact | None = None) -> Fact:
        """Any fact; or one of the kind and key of `keep`, with other values."""
        if keep is None:
            return make(self.rng.choice(KINDS), self.words)
        return make(keep.kind, self.words, {slot: keep.values[slot] for slot in keep.kind.key})

    def framed(self, text: str, frames: tuple[str, ...], often: float) -> str:
        """The text, or the text in one of the frames; now and then in another case or without its last mark."""
        if self.rng.random() < often:
            # a name keeps its capital
            lower = text[:1].lower() + text[1:] if text.split()[0] in _OPENERS else text
            text = self.rng.choice(frames).format(text, lower=lower)
        chance = self.rng.random()
        if chance < 0.04:
            return text.rstrip("?.")
        return text.lower() if chance < 0.08 and text.endswith("?") else text

    def telling(self, fact: Fact) -> str:
        return self.framed(fact.tell(self.words), TELL_FRAMES, 0.25)

    def question(self, fact: Fact) -> tuple[str, str]:
        asked, answer = fact.ask(self.words)
        return self.framed(asked, ASK_FRAMES, 0.25), answer

    def day(self) -> float:
        return time.mktime((self.rng.randint(2024, 2028), 1, self.rng.randint(1, 365), 12, 0, 0, 0, 0, -1))

    def distinct(self, count: int) -> list[Fact]:
        """Facts with different keys, some of one kind: each other's best distractors."""
        facts: dict[tuple[str, ...], Fact] = {}
        while len(facts) < count:
            chance = self.rng.random()
            fact = self.fact()
            if facts and chance < 0.3:
                fact = make(self.rng.choice(list(facts.values())).kind, self.words)
            elif facts and chance < 0.5:
                fact = self._sharing(self.rng.choice(list(facts.values())))
            facts.setdefault(fact.key, fact)
        return list(facts.values())

    def _sharing(self, other: Fact) -> Fact:
        """Another kind of fact about the same person or thing, where there is one."""
        for slot in ("who", "k"):
            if slot in other.values:
                kinds = [kind for kind in KINDS if slot in kind.key and kind.slots[slot] == other.kind.slots[slot]]
                if kinds:
                    return make(self.rng.choice(kinds), self.words, {slot: other.values[slot]})
        return self.fact()

    # -- blocks

    def block(self, facts: list[Fact], noise: float) -> tuple[str, list[Fact], dict[tuple[str, ...], str]]:
        """A block that holds the facts, with old lines among them; all facts in it; the day each was told."""
        lines: list[tuple[str, str, Fact | None]] = []
        held = list(facts)
        for fact in facts:
            if self.updates and self.rng.random() < 0.2:
                self._updated.append(fact)
                lines.insert(self.rng.randint(0, len(lines)), ("user", self.telling(self.fact(fact)), None))
            elif self.rng.random() < noise * 0.5:
                lines += [(role, text, None) for role, text in self._older(fact)]
            if len(fact.kind.asks) == 1 and self.rng.random() < 0.2 * noise:
                # what is left of it is an answer that was given once
                asked, answer = self.question(fact)
                lines += [("user", asked, None), ("assistant", answer, None)]
                continue
            told = self.telling(fact)
            if self.rng.random() < 0.2 * noise:
                second = self.fact_apart(held)
                held.append(second)
                told = f"{told} {self.rng.choice(('', '', 'Also: '))}{second.tell(self.words)}"
            lines.append(("user", told, fact))
            if self.rng.random() < noise:
                lines.append(("assistant", NOTED, None))
        for _ in range(sum(self.rng.random() < noise * 0.6 for _ in range(3))):
            lines.insert(self.rng.randint(0, len(lines)), (*self._noise(held), None))
        first = self.day()
        step = 0.0 if self.rng.random() < 0.3 else self.rng.choice((0.3, 3.0, 20.0)) * 86400
        days = sorted(first + step * self.rng.random() * len(lines) for _ in lines)
        written = [
            Excerpt(i, text, role, day) for i, ((role, text, _), day) in enumerate(zip(lines, days, strict=True))
        ]
        told_on = {
            fact.key: time.strftime("%Y-%m-%d", time.localtime(day))
            for (_, _, fact), day in zip(lines, days, strict=True)
            if fact is not None
        }
        return block_of(written), held, told_on

    def fact_apart(self, facts: list[Fact]) -> Fact:
        """A fact that answers none of the others' questions."""
        taken = {fact.key for fact in facts}
        while True:
            fact = self.fact()
            if fact.key not in taken:
                return fact

    def _older(self, fact: Fact) -> list[tuple[str, str]]:
        """What was said of the same thing before: another value, a question asked too early, an answer."""
        chance = self.rng.random()
        if chance < 0.45:
            return [("user", self.telling(self.fact(fact)))]
        asked, _ = self.question(fact)
        if chance < 0.8:
            return [("user", asked), ("assistant", UNKNOWN)]
        earlier = self.fact(fact)
        return [("user", earlier.tell(self.words)), ("assistant", earlier.ask(self.words)[1])]

    def _noise(self, facts: list[Fact]) -> tuple[str, str]:
        chance = self.rng.random()
        if chance < 0.3:
            return "assistant", self.rng.choice((NOTED, UNKNOWN, *(reply for _, reply in SMALL_TALK)))
        if chance < 0.5:
            return "user", self.rng.choice(self.rng.choice(SMALL_TALK)[0])
        return "user", self.question(self.fact_apart(facts))[0]

    # -- conversations

    def conversation(self) -> list[Turn]:
        """One conversation, of a shape drawn by chance."""
        self._updated = []
        chance = self.rng.random()
        if chance < 0.02 + 0.23 * self.ease:
            turns = self._repeating()
        elif chance < 0.66:
            turns = self._remembering()
        elif chance < 0.84:
            turns = self._telling()
        else:
            turns = self._forgetful()
        if self.rng.random() < 0.15:
            turns.insert(0, Turn("system", self.rng.choice(SYSTEM)))
        return turns

    def _repeating(self) -> list[Turn]:
        turns = []
        for _ in range(self.rng.randint(1, 3)):
            makers = (self.words.name, self.words.code, self.words.place, self.words.invented, self.words.date)
            text = " ".join(self.rng.choice(makers)() for _ in range(self.rng.randint(1, 4)))
            turns += [Turn("user", self.rng.choice(REPEAT).format(text)), Turn("assistant", text)]
        return turns

    def _asked(self, known: list[Fact], days: dict[tuple[str, ...], str]) -> tuple[str, str]:
        """A question about what is known, or near to it but unknown, or far from it."""
        chance = self.rng.random()
        keys = {fact.key for fact in known}
        if known and chance < 0.66:
            fact = self.rng.choice(known)
            if self._updated and self.rng.random() < 0.4:
                fact = self.rng.choice(self._updated)
            if days.get(fact.key) and self.rng.random() < 0.06:
                return f"When did I tell you about {fact.about()}?", f"You told me on {days[fact.key]}."
            return self.question(fact)
        if known and chance < 0.9:
            for _ in range(20):
                source = self.rng.choice(known)
                near = make(source.kind, self.words) if self.rng.random() < 0.5 else self._sharing(source)
                if near.key not in keys:
                    return self.question(near)[0], UNKNOWN
        return self._unknown(known)

    def _unknown(self, known: list[Fact]) -> tuple[str, str]:
        if self.rng.random() < 0.15:
            return self.rng.choice(ELSEWHERE).format(self.words.place()), UNKNOWN
        return self.question(self.fact_apart(known))[0], UNKNOWN

    def _chatter(self, block: str = "") -> list[Turn]:
        said, reply = self.rng.choice(SMALL_TALK)
        return [Turn("user", block + self.rng.choice(said)), Turn("assistant", reply)]

    def _remembering(self) -> list[Turn]:
        """Questions with blocks above them; a later question may be answered by an earlier block."""
        top = max(1, round(8 - 7 * self.ease))
        known: list[Fact] = []
        days: dict[tuple[str, ...], str] = {}
        turns: list[Turn] = []
        facts = self.distinct(self.rng.randint(1, top))
        for number in range(self.rng.choice((1, 2, 3, 4, 5, 6))):
            block = ""
            if number == 0:
                block, known, days = self.block(facts, 0.3 * (1 - self.ease))
            elif self.rng.random() < 0.2 and len(known) < 8:
                block, more, told = self.block([self.fact_apart(known)], 0.0)
                days |= told
                known = [*known, *more]
            if self.rng.random() < 0.04:
                turns += self._chatter(block)
                continue
            if self.rng.random() < 0.06:
                new = self.fact_apart(known)
                turns += [Turn("user", block + self.telling(new)), Turn("assistant", NOTED)]
                known = [*known, new]
                continue
            asked, answer = self._asked(known, days)
            turns += [Turn("user", block + asked), Turn("assistant", answer)]
        return turns

    def _telling(self) -> list[Turn]:
        """Told and asked in one window, with updates."""
        known: dict[tuple[str, ...], Fact] = {}
        turns: list[Turn] = []
        for _ in range(self.rng.randint(2, max(3, round(8 - 4 * self.ease)))):
            chance = self.rng.random()
            if chance < 0.08:
                turns += self._chatter()
            elif chance < 0.5 or not known:
                fact = (
                    self.fact()
                    if not known or self.rng.random() < 0.8
                    else self.fact(self.rng.choice(list(known.values())))
                )
                known[fact.key] = fact
                turns += [Turn("user", self.telling(fact)), Turn("assistant", NOTED)]
            else:
                asked, answer = self._asked(list(known.values()), {})
                turns += [Turn("user", asked), Turn("assistant", answer)]
        return turns

    def _forgetful(self) -> list[Turn]:
        """Nothing known: questions without a block, or with one of old questions only; and small talk."""
        turns: list[Turn] = []
        for number in range(self.rng.randint(1, 3)):
            if self.rng.random() < 0.35:
                turns += self._chatter()
                continue
            asked, answer = self._unknown([])
            block = ""
            if number == 0 and self.rng.random() < 0.4:
                count = self.rng.randint(1, 3)
                said = [("user", asked), ("assistant", UNKNOWN)] if self.rng.random() < 0.5 else []
                said += [self._noise([]) for _ in range(count)]
                day = self.day()
                block = block_of([Excerpt(i, text, role, day) for i, (role, text) in enumerate(said)])
            turns += [Turn("user", block + asked), Turn("assistant", answer)]
        return turns


_OPENERS = frozenset(
    "What What's Where Where's Who Who's When When's How Which Do Can In On At To With Since From By For My The Our "
    "You They There It We As No Tell Remind Please Have Remember Keep Don't".split()
)
