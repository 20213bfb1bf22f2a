"""`KVCounts`: what came of keeping KV state, since the program began."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class KVCounts:
    """Times and tokens. `rejected`: pieces found damaged, or wrong when they were held against their logits."""

    restores: int = 0
    restored_tokens: int = 0
    kept_pieces: int = 0
    kept_tokens: int = 0
    rejected: int = 0
