"""Which pieces stand for a prompt's beginning, against trying all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from membank_llama.kv.cover import common_length, covering
from membank_llama.kv.piece import Piece, StoredPiece, Tokens, digest_of

NUMBERS = st.lists(st.integers(0, 1), max_size=14)


def ids(values: Sequence[int]) -> Tokens:
    return np.array(values, np.int32)


def stored(ahead: Sequence[int], own: Sequence[int]) -> StoredPiece:
    piece = Piece("default", "key", "model", len(ahead), digest_of(ids(ahead)), ids(own))
    return StoredPiece(piece, Path(piece.filename), 0)


def by_prefix(pieces: Sequence[StoredPiece]) -> dict[int, dict[bytes, list[StoredPiece]]]:
    found: dict[int, dict[bytes, list[StoredPiece]]] = {}
    for one in pieces:
        found.setdefault(one.piece.start, {}).setdefault(one.piece.prefix, []).append(one)
    return found


def furthest(pieces: Sequence[tuple[list[int], list[int]]], tokens: Sequence[int]) -> int:
    """How far any chain of pieces gets, slowly."""
    reached = {0}
    while True:
        more = {
            end
            for ahead, own in pieces
            for at in reached
            for end in range(at + 1, len(tokens) + 1)
            if len(ahead) <= at and list(tokens[:end]) == (ahead + own)[:end]
        }
        if more <= reached:
            return max(reached)
        reached |= more


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS.filter(bool)), max_size=7), NUMBERS)
def test_as_much_as_there_are_pieces_of(pieces: list[tuple[list[int], list[int]]], tokens: list[int]) -> None:
    parts = covering(by_prefix([stored(*piece) for piece in pieces]), ids(tokens))
    at = 0
    for part in parts:
        piece = part.stored.piece
        assert part.begin == at < part.end
        assert piece.start <= part.begin and part.end <= piece.end
        assert piece.prefix == digest_of(ids(tokens[: piece.start]))
        assert tokens[piece.start : part.end] == piece.tokens[: part.end - piece.start].tolist()
        assert part.is_to_its_end is (part.end == piece.end)
        at = part.end
    assert at == furthest(pieces, tokens)


@given(NUMBERS, NUMBERS)
def test_common_length(one: list[int], other: list[int]) -> None:
    length = common_length(ids(one), ids(other))
    assert one[:length] == other[:length]
    assert length in (len(one), len(other)) or one[length] != other[length]


def test_a_piece_behind_other_tokens_does_not_fit() -> None:
    there = by_prefix([stored([1, 2], [3, 4]), stored([1, 9], [3, 4, 5]), stored([], [1, 2])])
    assert [part.end for part in covering(there, ids([1, 2, 3, 4, 5]))] == [2, 4]
    assert covering(there, ids([])) == []
