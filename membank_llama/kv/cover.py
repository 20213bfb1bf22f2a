"""Which pieces stand for the beginning of a prompt.

A piece fits where all tokens ahead of it are the prompt's, told by their digest, and as many of its own as are the
same. Cells depend on nothing else, so any of those can be used, whoever made them: a conversation that parts from
another uses what they have in common.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .piece import StoredPiece, Tokens

ByPrefix = Mapping[int, Mapping[bytes, Sequence[StoredPiece]]]
"""Pieces by their start, and by the digest of what is ahead of it."""


@dataclass(frozen=True)
class CoverPart:
    """The tokens ``[begin, end)`` of a prompt, by the cells of a piece."""

    stored: StoredPiece
    begin: int
    end: int

    @property
    def is_to_its_end(self) -> bool:
        """Whether the piece is used up to its last token, behind which its logits are known."""
        return self.end == self.stored.piece.end


def covering(by_prefix: ByPrefix, tokens: Tokens) -> list[CoverPart]:
    """Parts that stand for as much of a prompt's beginning as there are pieces of, in order and without gaps."""
    fitting = sorted(_fitting(by_prefix, tokens), key=lambda part: (part.begin, -part.end))
    chosen: list[CoverPart] = []
    at, place = 0, 0
    while True:
        best: CoverPart | None = None
        while place < len(fitting) and fitting[place].begin <= at:
            if best is None or fitting[place].end > best.end:
                best = fitting[place]
            place += 1
        if best is None or best.end <= at:
            return chosen
        chosen.append(CoverPart(best.stored, at, best.end))
        at = best.end


def _fitting(by_prefix: ByPrefix, tokens: Tokens) -> Iterable[CoverPart]:
    """Every piece that some of the prompt's tokens stand in, with its own reach."""
    data = np.ascontiguousarray(tokens, "<i4")
    ahead, hashed = hashlib.sha256(), 0
    for start in sorted(by_prefix):
        if start >= len(tokens):
            return
        ahead.update(data[hashed:start].tobytes())
        hashed = start
        for stored in by_prefix[start].get(ahead.digest(), ()):
            length = common_length(stored.piece.tokens, tokens[start:])
            if length:
                yield CoverPart(stored, start, start + length)


def common_length(one: Tokens, other: Tokens) -> int:
    """How many tokens two runs begin with in common."""
    size = min(len(one), len(other))
    differing = np.flatnonzero(one[:size] != other[:size])
    return int(differing[0]) if len(differing) else size
