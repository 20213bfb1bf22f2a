"""What a model thinks aloud: the tags around it, which of them a model uses, and a reply without it.

A thought stands ahead of a reply or between its paragraphs, between tags, behind the opening tag that a chat template
wrote into the prompt, or in a channel of its own. A tag that is quoted, in code or in the middle of a sentence is a
word like any other. What broke off within a thought says nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

_TOKEN = re.compile(r"<\|?/?[\w:]{1,24}\|?>|\[/?\w{1,24}\]|◁/?\w{1,24}▷")


@dataclass(frozen=True)
class ThoughtTag:
    """How a family of models writes thoughts.

    Args:
        opening, closing: what stands around a thought.
        frames: what else stands around an answer and is no part of it.
        answer: what an answer that is made under a grammar has to begin with.
    """

    opening: str
    closing: str
    frames: tuple[str, ...] = ()
    answer: str = ""

    @property
    def tokens(self) -> frozenset[str]:
        """The control tokens that these are made of, where a model has such."""
        return frozenset(_TOKEN.findall("\n".join((self.opening, self.closing, *self.frames))))


THINK = ThoughtTag("<think>", "</think>")
HARMONY = ThoughtTag(
    "<|channel|>analysis<|message|>",
    "<|end|>",
    ("<|start|>assistant", "<|channel|>final<|message|>", "<|channel|>commentary<|message|>", "<|end|>", "<|return|>"),
    "<|channel|>final<|message|>",
)
"""Of gpt-oss: each message of the model says its channel, and only the final one is an answer."""
_MARKED = (
    ThoughtTag("[THINK]", "[/THINK]"),
    ThoughtTag("◁think▷", "◁/think▷"),
    ThoughtTag("<seed:think>", "</seed:think>"),
    ThoughtTag("<|START_THINKING|>", "<|END_THINKING|>", ("<|START_RESPONSE|>", "<|END_RESPONSE|>")),
    ThoughtTag("<|inner_prefix|>", "<|inner_suffix|>"),
    ThoughtTag("<|channel>thought", "<channel|>"),
)
_NAMED = tuple(ThoughtTag(f"<{name}>", f"</{name}>") for name in ("thinking", "thought", "thoughts", "reasoning"))
TAGS = (THINK, *_MARKED, *_NAMED, ThoughtTag("<reflection>", "</reflection>"))
"""All but the channels."""

_OPENED = re.compile("|".join(re.escape(tag.opening) for tag in TAGS), re.IGNORECASE | re.ASCII)
_CLOSED = re.compile("|".join(re.escape(tag.closing) for tag in TAGS), re.IGNORECASE | re.ASCII)
_KINDS = {text.lower(): kind for kind, tag in enumerate(TAGS) for text in (tag.opening, tag.closing)}
_LONGEST = max(len(tag.opening) for tag in (*TAGS, HARMONY))
_HARMONY = re.compile(r"\A\s*(?:<\|start\|>assistant)?<\|channel\|>")
_HARMONY_ENDS = re.compile(r"<\|(?:end|return)\|>\s*\Z")
_FINAL = HARMONY.answer
BARE_CHANNELS = ThoughtTag("analysis", "assistantfinal")
"""What is left of channels where control tokens are not shown, as by llama-cpp-python."""
_BARE_HARMONY = re.compile(r"\A\s{0,8}(?:analysis|commentary)(?=[A-Z\u00c0-\uffff])")
_BARE_THOUGHT = re.compile(r"\A\s{0,8}analysis(?:We|The|User|I|It|They|This|So|Need|Let|Okay)\b")
_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
_BLANK = re.compile(r"\s*")
_PAIRS = {"`": "`", '"': '"', "'": "'", "“": "”", "„": "“", "‘": "’", "«": "»", "「": "」", "『": "』", "(": ")"}
_GOES_ON = re.compile(r"\A(?:[,;:)\]]|\.(?!\.)| {1,4}[^\W\d_A-Z\u0100-\uffff])")
_SENTENCE_ENDS = ".!?…。！？:：;)]}\"'”’»`*"
_NEAR = 200
"""Characters on either side of a tag that are looked at."""


def tag_of(template: str | None) -> ThoughtTag | None:
    """How a model writes thoughts, by its chat template; None where it has none."""
    if not template:
        return None
    if "<|channel|>" in template and "analysis" in template:
        return HARMONY
    for tag in (*_MARKED, THINK, *_NAMED):
        if tag.opening in template or tag.closing in template:
            return tag
    return THINK if "enable_thinking" in template else None


def begins_thought(prompt: str) -> bool:
    """Whether a prompt ends with an opening tag, as some templates write it: the reply begins within a thought."""
    end = prompt[-4 * _LONGEST :].rstrip()
    for tag in (*TAGS, HARMONY):
        before = end.removesuffix(tag.opening)
        if len(before) < len(end):
            # of a person who asks about a tag, it ends a line of words
            return not before or before[-1] in "\n>]▷|"
    return False


def is_quoted_so_far(text: str) -> bool:
    """Whether what comes next is quoted, by what stands right ahead of it."""
    mark, line = text[-1:], text[-_NEAR:].rpartition("\n")[2]
    if mark in ("`", '"'):
        return line.count(mark) % 2 == 1
    return mark in _PAIRS and (mark != "'" or line[-2:-1] in ("", " "))


def without_thoughts(text: str, *, begun: bool = False) -> str:
    """A reply without what a model thought aloud.

    Args:
        begun: the prompt ended within a thought (`begins_thought`).
    """
    if _HARMONY.match(text) or (begun and _FINAL in text):
        final = text.rfind(_FINAL)
        return "" if final < 0 else _HARMONY_ENDS.sub("", text[final + len(_FINAL) :])
    if _BARE_THOUGHT.match(text) or (_BARE_HARMONY.match(text) and BARE_CHANNELS.closing in text):
        return text.partition(BARE_CHANNELS.closing)[2]
    if _OPENED.search(text) is None and _CLOSED.search(text) is None:
        return "" if begun else text
    return _Tagged(text).reply(begun)


class _Tagged:
    """A reply that holds tags."""

    def __init__(self, text: str) -> None:
        self._text = text
        fences = [found.start() for found in _FENCE.finditer(text)]
        self._fenced = [at for pair in zip(fences[::2], fences[1::2], strict=False) for at in pair]
        closed = list(_CLOSED.finditer(text))
        plain = [one for one in closed if not self._is_quoted(one) and not self._goes_on(one)]
        # of its own kind, or else of any, or else on a line of its own: no fence that was never closed hides that
        self._ends: dict[int | None, list[re.Match[str]]] = {}
        for one in plain:
            self._ends.setdefault(_KINDS[one.group().lower()], []).append(one)
        self._others = (plain, [one for one in closed if self._is_alone(one)])

    def reply(self, begun: bool) -> str:
        """The text without its thoughts."""
        at: int | None = 0
        if begun:
            at = self._end(0)
        elif not _OPENED.match(self._text, self._after_blank(0)):
            at = self._end_without_opening()
        while at is not None and (opened := _OPENED.match(self._text, self._after_blank(at))):
            end = self._end(opened.end(), _KINDS[opened.group().lower()])
            if end is None and self._is_spoken_of(opened):
                break
            at = end
        if at is None:
            # it broke off
            return ""
        return self._between_paragraphs(self._after_blank(at) if at else 0)

    def _is_spoken_of(self, opened: re.Match[str]) -> bool:
        """Whether a line that begins with an opening tag goes on across the closing one."""
        line = self._text[opened.end() : opened.end() + _NEAR].partition("\n")[0]
        closed = _CLOSED.search(line)
        return closed is not None and bool(line[: closed.start()].strip())

    def _end_without_opening(self) -> int:
        """Where a thought ends that the template began; 0 where there is none."""
        first = next(iter(self._others[0]), None)
        if first is None:
            return 0
        before, after = self._around(first)
        if before.endswith(" ") and before.rstrip()[-1:] not in _SENTENCE_ENDS and not after.strip():
            # a line that ends with the name of the tag
            return 0
        opened = (one for one in _OPENED.finditer(self._text, 0, first.start()) if not self._is_quoted(one))
        return 0 if next(opened, None) else first.end()

    def _between_paragraphs(self, at: int) -> str:
        """What is said from there on, without thoughts that begin on lines of their own."""
        kept, start = [], at
        for opened in _OPENED.finditer(self._text, at):
            if opened.start() < at or not self._begins_paragraph(opened):
                continue
            end = self._end(opened.end(), _KINDS[opened.group().lower()])
            if end is None:
                if self._text[opened.end() : opened.end() + 1] not in ("", "\n"):
                    continue
                end = len(self._text)
            kept.append(self._text[start : opened.start()])
            start = at = self._after_blank(end)
        kept.append(self._text[start:])
        return "".join(kept).rstrip() if start == len(self._text) else "".join(kept)

    def _begins_paragraph(self, opened: re.Match[str]) -> bool:
        before = self._text[max(0, opened.start() - _NEAR) : opened.start()]
        line = before.rpartition("\n")
        alone = bool(line[1]) and not line[2].strip() and not line[0].rstrip().endswith((":", "："))
        return alone and not self._is_quoted(opened)

    def _end(self, start: int, kind: int | None = None) -> int | None:
        """Where the thought ends that is open there."""
        for some in (self._ends.get(kind, []), *self._others):
            place = bisect_left(some, start, key=lambda one: one.start())
            if place < len(some):
                return some[place].end()
        return None

    def _is_alone(self, tag: re.Match[str]) -> bool:
        before, after = self._around(tag)
        return not before.strip() and not after.strip()

    def _is_quoted(self, tag: re.Match[str]) -> bool:
        before, after = self._around(tag)
        if before and after and _PAIRS.get(before[-1]) == after[0]:
            return before[-1] != '"' or before.count('"') % 2 == 1
        in_code = before.count("`") % 2 == 1 and "`" in after
        return in_code or bisect_left(self._fenced, tag.start()) % 2 == 1

    def _goes_on(self, tag: re.Match[str]) -> bool:
        """Whether a sentence goes on across a tag."""
        before, after = self._around(tag)
        return bool(before.strip()) and before.rstrip()[-1] not in _SENTENCE_ENDS and bool(_GOES_ON.match(after))

    def _around(self, tag: re.Match[str]) -> tuple[str, str]:
        """What stands on the same line, near to it."""
        before = self._text[max(0, tag.start() - _NEAR) : tag.start()].rpartition("\n")[2]
        return before, self._text[tag.end() : tag.end() + _NEAR].partition("\n")[0]

    def _after_blank(self, at: int) -> int:
        blank = _BLANK.match(self._text, at)
        return blank.end() if blank else at


class ThoughtStream:
    """A reply that comes in pieces, told apart into thoughts and words; tags belong to neither.

    What may be the beginning of a tag waits until that is known. Only thoughts ahead of the words are told apart.

    Args:
        begun: the prompt ended within a thought (`begins_thought`).
        tag: how the model writes thoughts, where its template says.
    """

    def __init__(self, *, begun: bool = False, tag: ThoughtTag | None = None) -> None:
        self._tags = (HARMONY, *TAGS, *((BARE_CHANNELS,) if tag is HARMONY else ()))
        self._marks = [mark for one in self._tags for mark in (one.opening, *one.frames)]
        self._closing = (tag or THINK).closing if begun else ""
        self._held = self._before = ""
        self._thought = self._speaks = False

    @property
    def speaks(self) -> bool:
        """Whether words have begun: no more is told apart."""
        return self._speaks

    @property
    def thinks(self) -> bool:
        """Whether a thought is under way."""
        return bool(self._closing)

    def push(self, piece: str) -> tuple[str, str]:
        """A thought and words that can be shown now."""
        self._held += piece
        thought, moved = "", True
        while moved and not self._speaks:
            if self._closing:
                shown, moved = self._think()
                thought += shown
            else:
                moved = self._begin()
        if not self._speaks:
            return thought, ""
        words, self._held = self._held, ""
        return thought, words

    def end(self) -> tuple[str, str]:
        """What still waits, at the reply's end."""
        held, self._held = self._held, ""
        return (held, "") if self._closing else ("", held)

    def _begin(self) -> bool:
        """Look what comes; False where that is not known yet."""
        words = self._held.lstrip()
        for tag in self._tags:
            for mark in (tag.opening, *tag.frames):
                if words[: len(mark)].lower() == mark.lower():
                    self._held = words[len(mark) :]
                    if mark == tag.opening:
                        self._closing, self._before, self._thought = tag.closing, "", True
                    return True
        if len(self._held) <= _NEAR and any(mark.lower().startswith(words.lower()) for mark in self._marks):
            return False
        self._held = words if self._thought else self._held
        self._speaks = True
        return False

    def _think(self) -> tuple[str, bool]:
        """What is thought, and whether there is more to look at."""
        closed = re.search(re.escape(self._closing), self._held, re.IGNORECASE | re.ASCII)
        if closed is None:
            tail = self._held[-len(self._closing) + 1 :].lower()
            kept = next((n for n in range(len(tail), 0, -1) if self._closing.lower().startswith(tail[-n:])), 0)
            end = len(self._held) - kept
            shown, self._held = self._held[:end], self._held[end:]
        else:
            shown, self._held = self._held[: closed.start()], self._held[closed.end() :]
        self._before = (self._before + shown)[-_NEAR:]
        if closed is None:
            return shown, False
        if is_quoted_so_far(self._before):
            self._before += closed.group()
            return shown + closed.group(), True
        self._closing, self._thought = "", True
        return shown, True
