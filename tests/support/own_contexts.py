"""A context of one's own through llama.cpp's C API, and the KV state that is kept of it, for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from membank_llama.adapters.llama_cpp.loaded_model import LoadedModel, quiet
from membank_llama.kv.cells import ContextCells
from membank_llama.kv.opening import OpenContext, open_prefix_cache
from membank_llama.kv.piece_store import PieceStore
from membank_llama.kv.prefix_cache import PrefixCache
from membank_llama.kv.token_batch import TokenBatch

BATCH = 512
KEY = bytes(range(32))
Logits = npt.NDArray[np.float32]


class OwnContext:
    """One model, one context with a spare sequence, and a cache of it where a store is given.

    Args:
        n_batch: tokens of one evaluation.
        model: the file's, where it is loaded already.
        more: fields of `llama_context_params`.
    """

    def __init__(
        self,
        path: Path,
        store: PieceStore | None = None,
        *,
        n_ctx: int = 2048,
        n_batch: int = BATCH,
        model: LoadedModel | None = None,
        **more: Any,
    ) -> None:
        self._stack = ExitStack()
        self.model = model or LoadedModel(path)
        if model is None:
            self._stack.callback(self.model.close)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model.handle)
        self.n_vocab = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, n_batch, n_batch
        params.n_threads = params.n_threads_batch = 1
        params.n_seq_max, params.kv_unified, params.no_perf = 2, True, True
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        for name, value in more.items():
            setattr(params, name, value)
        self.n_batch = n_batch
        with quiet():
            self.ctx = llama_cpp.llama_init_from_model(self.model.handle, params)
        assert self.ctx, "no context"
        self._stack.callback(lambda: llama_cpp.llama_free(self.ctx))
        self._batch = TokenBatch(n_batch)
        self._stack.callback(self._batch.free)
        self.cells = ContextCells(self.ctx, 1, self.n_vocab)
        self.known = OpenContext(self.ctx, self.model.handle, params, path, 1, 0, self.spell)
        self.cache: PrefixCache | None = None
        if store is not None:
            self.use(store)

    def use(self, store: PieceStore) -> PrefixCache:
        """Keep and restore in this store from now on."""
        if self.cache is not None:
            self.cache.close()
        self.cells.drop(0)
        self.cache = open_prefix_cache(store, self.known)
        assert self.cache is not None, "nothing holds"
        return self.cache

    def tokens(self, text: str) -> list[int]:
        return list(self.model.tokenize(text, specials=True, add=True))

    def spell(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self._spelled(token) for token in tokens)

    def _spelled(self, token: int) -> bytes:
        buffer = (llama_cpp.ctypes.c_char * 256)()
        count = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, 256, 0, True)
        return bytes(buffer[: max(0, count)])

    def evaluate(self, tokens: Sequence[int], start: int = 0, seq: int = 0) -> Logits:
        """The logits behind tokens that are evaluated from a position on."""
        for at in range(0, len(tokens), self.n_batch):
            code = self._batch.decode(self.ctx, seq, tokens[at : at + self.n_batch], start + at)
            assert code == 0, f"llama_decode: {code}"
        return self.logits()

    def logits(self) -> Logits:
        pointer = llama_cpp.llama_get_logits_ith(self.ctx, -1)
        return np.ctypeslib.as_array(pointer, (self.n_vocab,)).copy()

    def greedy(self, count: int, at: int) -> list[int]:
        """The likeliest tokens behind what was evaluated, of which `at` are held."""
        said: list[int] = []
        while len(said) < count:
            said.append(int(np.argmax(self.logits())))
            self.evaluate(said[-1:], at + len(said) - 1)
        return said

    def read(self, tokens: Sequence[int], namespace: str = "default") -> int:
        """Have sequence 0 hold a prompt, restored as far as it is known; how many tokens were restored."""
        self.cells.drop(0)
        at = 0 if self.cache is None else self.cache.restore(namespace, tokens, 0, 0)
        assert at < len(tokens)
        assert self.cells.span(0)[1] == at
        self.evaluate(tokens[at:], at)
        return at

    def keep(self, tokens: Sequence[int], namespace: str = "default") -> int:
        """Keep what sequence 0 holds, in files; how many tokens of it are new."""
        assert self.cache is not None
        kept = self.cache.keep(namespace, tokens, 0, self.cache.store.begin(), self.cells.top_logits())
        self.cache.writer.flush()
        return kept

    def close(self) -> None:
        if self.cache is not None:
            self.cache.close()
        self._stack.close()

    def __enter__(self) -> OwnContext:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Opened = Callable[..., OwnContext]


def pieces_of(bank: Path, key: bytes = KEY, **more: Any) -> PieceStore:
    bank.mkdir(mode=0o700, parents=True, exist_ok=True)
    return PieceStore(bank, key=key, **more)


def story(count: int, seed: int = 0, vocabulary: int = 512) -> list[int]:
    """So many ids of tokens, the same every time."""
    chosen = np.random.default_rng(seed).integers(3, vocabulary, count)
    return [1, *chosen[1:].tolist()]
