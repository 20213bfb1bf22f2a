"""Looking after a bank: collect what has expired, write the activation file anew. (verify.py checks it.)

A rewrite fills the next activation file beside the one in use and records every step in the registry; the switch
to it is one transaction. Interrupted anywhere, the bank is as it was and the rewrite goes on where it stopped.
"""

from __future__ import annotations

import time
from contextlib import closing

from membank_llama.adapters.base import ModelAdapter
from membank_llama.core.types import LEVELS, Progress
from membank_llama.hgns.hierarchy import HGNSHierarchy

from ..encoding import encoded_by
from ..memory_writer import ModelCard, full_of
from ..store import Store
from .rewrite import Rewrite
from .verify import VerifyReport as VerifyReport
from .verify import verify as verify

BATCH = 32


def collect(store: Store, progress: Progress | None = None) -> dict[str, int]:
    """Remove expired memories, then pack the files.

    Threads may recall meanwhile; those that write wait.
    """
    store.check_writable()
    with store.write_lock:
        return _collect(store, progress)


def _collect(store: Store, progress: Progress | None) -> dict[str, int]:
    expired = store.registry.select(namespace=None, conversation=None, before=None, expired_at=time.time())
    store.remove(expired)
    free = store.registry.free_count()
    before = sum(store.nbytes().values())
    if free or (store.tokens is not None and store.tokens.garbage()):
        _pack(store, progress)
    store.indexes.purge(progress)
    if store.registry.scalar("PRAGMA freelist_count"):
        store.registry.rows("VACUUM")
    store.registry.checkpoint()
    return {
        "expired": len(expired),
        "freed_slots": free,
        "freed_bytes": max(0, before - sum(store.nbytes().values())),
    }


def _pack(store: Store, progress: Progress | None) -> None:
    """Copy the activations in use into a new file."""
    rewrite = Rewrite(store, store.model, store.hierarchy, kind="pack", calibrated_at=store.calibrated_at)
    for done, total in rewrite.copying(lambda slots: [store.codes(slots, level) for level in LEVELS], LEVELS):
        if progress is not None:
            progress("packing", done, total)


def reencode(store: Store, adapter: ModelAdapter, progress: Progress | None = None) -> int:
    """Compute every vector anew from the texts; returns how many were computed in this call."""
    store.check_writable()
    adapter.validate()
    card = ModelCard(adapter.model_id(), adapter.name, adapter.hidden_dim, adapter.source, adapter.token_dim)
    spec = store.hierarchy
    levels = spec.spec()["gradient_levels"]
    hierarchy = HGNSHierarchy(card.dim, spec.codec_name, k=spec.k, gradient_levels=levels, full=full_of(card))
    with closing(Rewrite(store, card, hierarchy, kind="encode")) as rewrite:
        return _encode_all(store, adapter, rewrite, card, progress)


def adopt(store: Store, adapter: ModelAdapter) -> None:
    """Make a bank that holds nothing this model's, where another one began it."""
    if store.model.id != adapter.model_id() and not store.read_only and not store.registry.count_vectors():
        reencode(store, adapter)


def _encode_all(
    store: Store, adapter: ModelAdapter, rewrite: Rewrite, card: ModelCard, progress: Progress | None
) -> int:
    total, done, computed = store.registry.count_vectors(), rewrite.count(), 0
    while True:
        batch = rewrite.missing(BATCH)
        if not batch:
            with store.write_lock:
                if not rewrite.missing(1):
                    rewrite.finish()
                    return computed
            continue
        vectors, tokens = encoded_by(adapter, [memory.text for memory in batch], card)
        rewrite.put(batch, rewrite.hierarchy.compress(vectors), tokens=tokens)
        computed += len(batch)
        if progress is not None:
            progress("re-encoding", done + computed, total)
