"""Which pieces go with a text that is forgotten: those that hold it, or its beginning, and all that is behind them."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence

from .overlap import REACH, ForgottenTexts, letters
from .piece import Piece, StoredPiece


def pieces_holding(pieces: Sequence[StoredPiece], sought: Mapping[str, ForgottenTexts]) -> Iterator[StoredPiece]:
    """The pieces that hold something sought or a part of it, and all that were evaluated behind one of them, or behind
    one that is gone and may have held it."""
    by_id = {stored.piece.id: stored.piece for stored in pieces}
    tainted: set[str] = set()
    for piece in by_id.values():
        forgotten = sought.get(piece.namespace)
        if forgotten and forgotten.are_in(piece.text.decode("utf-8", "replace")):
            tainted.add(piece.id)
            if forgotten.stand_across(*_split(piece)):
                tainted.update(_right_ahead(piece, by_id))
    for stored in sorted(pieces, key=lambda one: one.piece.start):
        piece = stored.piece
        is_clean = tainted.isdisjoint(piece.ancestors) and by_id.keys() >= set(piece.ancestors)
        if sought.get(piece.namespace) and (piece.id in tainted or not is_clean):
            tainted.add(piece.id)
            yield stored


def _right_ahead(piece: Piece, by_id: Mapping[str, Piece]) -> Iterator[str]:
    """The pieces in which a text may begin that goes on in this one: of as many letters as it knows ahead of it."""
    left = REACH
    for one in reversed(piece.ancestors):
        yield one
        left -= len(letters(_split(by_id[one])[1])) if one in by_id else 0
        if left <= 0:
            return


def _split(piece: Piece) -> tuple[str, str]:
    """What is ahead of a piece, as far as it is known, and what it spells itself, with a letter that is of both."""
    ahead = codecs.getincrementaldecoder("utf-8")("replace").decode(piece.text[: piece.ahead])
    text = piece.text.decode("utf-8", "replace")
    return ahead, text[len(ahead) :]
