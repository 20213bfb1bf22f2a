"""`LlamaPrefix`: a `llama_cpp.Llama` goes on from what is stored, in place of evaluating it.

Llama keeps account of its context in `input_ids` and `n_tokens`, all in sequence 0. Ahead of a call the context is
given the longest beginning of the prompt that is known, and the account is brought up to date: its own prefix match
then finds it there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import llama_cpp
import numpy as np

from membank_llama.adapters.llama_cpp.private_api import account_for, has_logits, is_as_its_file, is_exact_match

from .counts import KVCounts
from .cover import common_length
from .opening import OpenContext, open_prefix_cache
from .piece_store import PieceStore

_SEQ = 0


class LlamaPrefix:
    """What is restored into a Llama's context, and kept of it.

    Args:
        llm: made with a spare sequence (`SafeLlama`), and holding nothing yet.
        store: the bank's pieces.
        namespace: says whose conversation it is, which may change from call to call.
    """

    def __init__(self, llm: llama_cpp.Llama, store: PieceStore | None, namespace: Callable[[], str]) -> None:
        self._llm = weakref.ref(llm)
        self._namespace = namespace
        self._cache = None
        self._since, self._asker = "", namespace()
        self.counts = KVCounts()
        params = llm.context_params
        spare = int(params.n_seq_max) - 1
        fresh = llm.n_tokens == 0 and is_as_its_file(llm)
        if store is None or spare < 1 or not params.kv_unified or not fresh:
            return
        this = self._llm

        def spell(tokens: Sequence[int]) -> bytes:
            host = this()
            return b"" if host is None else host.detokenize(list(tokens), special=True)

        layers = int(llm.model_params.n_gpu_layers)
        context = OpenContext(llm.ctx, llm.model, params, Path(llm.model_path), spare, layers, spell)
        self._cache = open_prefix_cache(store, context)
        if self._cache is not None:
            self.counts = self._cache.counts

    def begin(self) -> None:
        """A call has come; its memories are not recalled yet."""
        if self._cache is not None:
            self._since, self._asker = self._cache.store.begin(), self._namespace()

    def prepare(self, tokens: Sequence[int]) -> None:
        """Have the context hold as much of a prompt as is known; called ahead of `Llama.generate`."""
        llm, cache = self._llm(), self._cache
        if llm is None or cache is None or is_exact_match(llm, tokens):
            return
        wanted = np.array(tokens, np.int32)
        held = min(common_length(llm.input_ids[: llm.n_tokens].astype(np.int32), wanted), len(wanted) - 1)
        parts = cache.found(self._namespace(), tokens, held)
        if not parts:
            return
        if not cache.cells.drop(_SEQ, held) or cache.cells.span(_SEQ) != (0, held):
            cache.cells.drop(_SEQ)
            held = 0
        account_for(llm, tokens[: cache.put_back(parts, tokens, _SEQ, held)])

    def keep(self) -> None:
        """Have what the context holds written, as far as it is not yet; called behind an answer."""
        llm, cache = self._llm(), self._cache
        if llm is not None and cache is not None and llm.n_tokens > 0:
            tokens = llm.input_ids[: llm.n_tokens].tolist()
            top = cache.cells.top_logits() if has_logits(llm) else None
            cache.keep(self._asker, tokens, _SEQ, self._since, top)

    def flush(self) -> None:
        """Return when all that was kept is in its files."""
        if self._cache is not None:
            self._cache.writer.flush()

    def close(self) -> None:
        """Write what waits; the context may be freed then."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None
