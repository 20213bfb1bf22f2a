"""Texts through an adapter, into what a store keeps of them: vectors, and the digits of their tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from membank_llama.adapters.base import ModelAdapter, check_tokens, check_vectors
from membank_llama.core.letters import readable
from membank_llama.core.types import Codes, Vector
from membank_llama.hgns.token_codes import token_codes

from .memory_writer import ModelCard


def encoded_by(adapter: ModelAdapter, texts: Sequence[str], card: ModelCard) -> tuple[Vector, list[Codes] | None]:
    """The vectors of some texts, (n, dim), and of each the digits of its tokens, (count, row bytes).

    Args:
        card: the model as the bank records it; without a token's length, vectors alone.

    Raises:
        EncodingError: the adapter does not hold to its contract.
    """
    texts = [text if text.isascii() else readable(text) for text in texts]
    if not card.token_dim:
        return check_vectors(adapter.encode_batch(texts), len(texts), card.dim, card.name), None
    found = check_tokens(adapter.encode_tokens(texts), len(texts), card.dim, card.token_dim, card.name)
    vectors = np.stack([one.vector for one in found])
    return vectors, [token_codes(one.worth_keeping().states) for one in found]
