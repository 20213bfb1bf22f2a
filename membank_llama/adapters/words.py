"""`WordsAdapter`: where no model encodes, texts are told apart by their words alone.

Its vectors are hashed words, as the mock's are: recall then is lexical, whichever signal it comes by. A bank made
with it moves to a model with `membank reencode`, without losing anything.
"""

from __future__ import annotations

from .mock import MockAdapter

PREFIX = "words-1-"


class WordsAdapter(MockAdapter):
    """Vectors of hashed words, of unit length; knows no meaning."""

    @property
    def name(self) -> str:
        return "words alone"

    def model_id(self) -> str:
        return f"{PREFIX}{self.hidden_dim}"
