"""Texts through an adapter, into what a store keeps of them: vectors, and the digits of their tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from membank_llama.adapters.base import ModelAdapter, check_tokens, check_vectors
from membank_llama.core.types import Codes, Vector
from membank_llama.hgns.token_codes import token_codes


def encoded_by(adapter: ModelAdapter, texts: Sequence[str], token_dim: int) -> tuple[Vector, list[Codes] | None]:
    """The vectors of some texts, (n, dim), and of each the digits of its tokens, (count, row bytes).

    Args:
        token_dim: length of a token's state; 0 for vectors alone.

    Raises:
        EncodingError: the adapter does not hold to its contract.
    """
    who, dim = adapter.name, adapter.hidden_dim
    if not token_dim:
        return check_vectors(adapter.encode_batch(texts), len(texts), dim, who), None
    found = check_tokens(adapter.encode_tokens(texts), len(texts), dim, token_dim, who)
    vectors = np.stack([one.vector for one in found])
    return vectors, [token_codes(one.worth_keeping().states) for one in found]
