"""`HeldSequences`: what the sequences of one context hold, and in which of them a prompt goes on.

Several conversations share a context: one that takes up where it left off goes on in its own sequence, one that begins
like another shares that one's cells and leaves it as it is. Where the cells run out, whoever was not asked for longest
goes. A namespace never goes on with what another one's prompts have left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from membank_llama.kv.cells import ContextCells
from membank_llama.kv.cover import common_length

SEQUENCES = 4
_OWN = 0.5
"""Share of what a sequence holds that a prompt must begin with to be its continuation."""
_SHARED = 16
"""Tokens below which nothing is worth sharing: all prompts begin with the same few."""


@dataclass
class HeldSequence:
    """One sequence: its number, its tokens, whose they are, and when it was last used."""

    seq: int
    tokens: list[int] = field(default_factory=list)
    namespace: str = ""
    used: int = 0


class HeldSequences:
    """The sequences of a context, one of them current.

    Args:
        cells: the context's.
        count: how many there may be; 1 where the model can't share cells.
        room: tokens that the context holds in all of them together.
    """

    def __init__(self, cells: ContextCells, count: int, room: int) -> None:
        self._cells = cells
        self._room = room
        self._all = [HeldSequence(seq) for seq in range(count)]
        self._clock = 0
        self.current = self._all[0]

    def turn_to(self, tokens: Sequence[int], namespace: str) -> int:
        """Make the sequence current in which a prompt goes on, and cut it to what they have in common; how many tokens.

        At least one token of the prompt is left to be evaluated.
        """
        wanted, own = np.array(tokens, np.int32), [one for one in self._all if one.namespace == namespace]
        common = {one.seq: common_length(np.array(one.tokens, np.int32), wanted) for one in own}
        most = min(_SHARED, len(tokens) - 1)
        near = [one for one in self._all if common.get(one.seq, 0) >= max(1, min(most, len(one.tokens)))]
        best = max(near, key=lambda one: common[one.seq], default=None)
        self._clock += 1
        keep = 0 if best is None else min(common[best.seq], len(tokens) - 1)
        if best is not None and (keep >= _OWN * len(best.tokens) or len(self._all) == 1):
            self.current = best
        else:
            self.current = self._oldest(best)
            self._empty(self.current)
            if best is not None:
                self._cells.share(best.seq, self.current.seq, 0, keep)
                if self._cells.span(self.current.seq) == (0, keep):
                    self.current.tokens = best.tokens[:keep]
                else:
                    self._cells.drop(self.current.seq)
                    keep = 0
        self.current.namespace, self.current.used = namespace, self._clock
        kept = self._cut(keep)
        self._make_room(len(tokens))
        return kept

    def grow_to(self, tokens: Sequence[int]) -> None:
        """The current sequence holds these now, as its cells do."""
        self.current.tokens = list(tokens)

    def let_one_go(self) -> bool:
        """Empty the sequence that was not used for longest, other than the current; False where there is none."""
        others = [one for one in self._all if one is not self.current and one.tokens]
        if not others:
            return False
        self._empty(min(others, key=lambda one: one.used))
        return True

    def clear(self) -> None:
        """Nothing is held any more."""
        for one in self._all:
            self._empty(one)

    def _make_room(self, wanted: int) -> None:
        """Let others go until so many tokens fit beside them, counting what they share with each other twice."""
        while sum(len(one.tokens) for one in self._all if one is not self.current) + wanted >= self._room:
            if not self.let_one_go():
                return

    def _oldest(self, besides: HeldSequence | None) -> HeldSequence:
        return min((one for one in self._all if one is not besides), key=lambda one: (bool(one.tokens), one.used))

    def _cut(self, keep: int) -> int:
        """Have the current sequence hold its first `keep` tokens, or none where they can't be kept."""
        one = self.current
        if keep == len(one.tokens):
            return keep
        if keep > 0 and self._cells.drop(one.seq, keep) and self._cells.span(one.seq) == (0, keep):
            del one.tokens[keep:]
        else:
            self._empty(one)
        return len(one.tokens)

    def _empty(self, one: HeldSequence) -> None:
        # a model without positions forgets a sequence whole
        self._cells.drop(one.seq)
        one.tokens.clear()
