"""A reply that goes on writing the block: small models do, in place of an answer or behind one.

What is looked for begins a line: a memory as the block writes it, with its day and who said it, the block's header, or
one of its markers. A list of days is none of these, nor is what stands in code or in a thought.
"""

from __future__ import annotations

import re

from membank_llama.core.thoughts import ThoughtStream, ThoughtTag

from .prompt_block import BLOCK_CLOSE, BLOCK_OPEN, HEADER, after_blank

_DAY = r"[-–—•*]\s(?:\d{4}-\d\d-\d\d|undated)(?: \([^()\n]{1,40}\))?(?:, (?:no longer so|so now))?, "
_SPEAKER = re.compile(rf"^{_DAY}([^:\n]{{1,60}}):", re.MULTILINE)
_SPEAKERS = ("I said", "you answered", "you said", "a tool said", "user", "assistant")
_LINE = re.compile(rf"\A{_DAY}(?:{'|'.join(_SPEAKERS)}|imported, [^:\n]{{1,40}}):")
_MAY_BE_LINE = re.compile(
    r"\A[-–—•*](?:\s(?:\d{1,4}|\d{4}-\d{0,2}|\d{4}-\d\d-\d{0,2}|u[ndate]{0,6}"
    r"|(?:\d{4}-\d\d-\d\d|undated)(?: ?\([^()\n]{0,40}| |(?: \([^()\n]{1,40}\))?(?:, ?[^:\n]{0,90})?))?)?\Z"
)
_HEADER = HEADER.partition(",")[0] + ", oldest first"
_FENCES = ("```", "~~~")


def without_continued_block(text: str) -> str:
    """A reply up to where it goes on writing a block."""
    guard = EchoGuard()
    shown = guard.push(text) + guard.end()
    # the marker may stand at the end of a line of the reply's own
    return shown.rstrip().removesuffix(BLOCK_OPEN).rstrip() if guard.is_hit else text


class EchoGuard:
    """Lets a reply through, piece by piece, up to where it goes on writing the block.

    The beginning of a line that may become one of the block's waits until that is known, and so does white space.

    Args:
        block: what was injected, for the names of those who speak in it.
        begun: the prompt ended within a thought.
        tag: how the model writes thoughts.
    """

    def __init__(self, block: str = "", *, begun: bool = False, tag: ThoughtTag | None = None) -> None:
        names = {name for name in _SPEAKER.findall(block) if name not in _SPEAKERS}
        self._line = _LINE if not names else re.compile(rf"{_LINE.pattern}|\A{_DAY}(?:{_any_of(names)}):")
        self._thoughts: ThoughtStream | None = ThoughtStream(begun=begun, tag=tag)
        self._held = ""
        self._in_line = self._in_code = False
        self.is_hit = False
        """Whether the block goes on: nothing is let through any more."""

    def push(self, piece: str) -> str:
        """What can be given out now."""
        if self.is_hit:
            return ""
        self._held += piece
        if self._thoughts is not None:
            _, words = self._thoughts.push(piece)
            if not self._thoughts.speaks:
                # a thought may say what it likes
                return self._take(len(self._held)) if self._thoughts.thinks else ""
            self._thoughts = None
            return self._take(len(self._held) - len(words)) + self._lines()
        return self._lines()

    def end(self) -> str:
        """What still waits, at the reply's end."""
        if self._thoughts is None and not self._in_line and self._is_block(self._held.lstrip(), whole=True):
            self.is_hit = True
        return "" if self.is_hit else self._take(len(self._held))

    def _take(self, count: int) -> str:
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def _lines(self) -> str:
        """What is held, up to a line that may be one of the block's."""
        at, held = 0, self._held
        while at < len(held):
            start = at if self._in_line else after_blank(held, at)
            end = held.find("\n", start) + 1
            if not self._in_line:
                line = held[start : end or len(held)]
                if not line.strip() or (not end and self._may_be_block(line)):
                    break
                if self._is_block(line, whole=bool(end)):
                    self.is_hit = True
                    return self._take(at)
                if line.startswith(_FENCES):
                    self._in_code = not self._in_code
            self._in_line = not end
            at = end or len(held)
        return self._take(at)

    def _is_block(self, line: str, *, whole: bool) -> bool:
        if self._in_code:
            return False
        marker = whole and line.strip() == BLOCK_OPEN
        return marker or line.startswith((BLOCK_CLOSE, _HEADER)) or self._line.match(line) is not None

    def _may_be_block(self, line: str) -> bool:
        """Whether what comes behind this beginning of a line decides what it is."""
        starts = (BLOCK_OPEN, BLOCK_CLOSE, _HEADER, *_FENCES)
        return any(start.startswith(line) for start in starts) or (
            not self._in_code and _MAY_BE_LINE.match(line) is not None
        )


def _any_of(names: set[str]) -> str:
    return "|".join(map(re.escape, sorted(names)))
