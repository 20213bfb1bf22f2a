"""`GenerationContext`: one GGUF in llama.cpp, with one context whose KV cache is kept from answer to answer.

A native context belongs to one thread: everything here but `cancelled` is called on the thread that the
model was given (see model_pool.py). `evaluate()` keeps what a sequence has in common with the prompt, restores what
a bank has stored of it, and evaluates the rest, so a conversation that grows at its end costs only its newest words.
What the cache holds and `HeldSequences` say the same at all times; where llama.cpp fails, both are emptied.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from membank_llama.adapters.llama_cpp.loaded_model import LoadedModel, default_threads, quiet
from membank_llama.core.errors import ModelError
from membank_llama.core.thoughts import tag_of
from membank_llama.kv.cells import ContextCells
from membank_llama.kv.context_key import GGML_TYPES
from membank_llama.kv.kv_cache import KVCache
from membank_llama.kv.kv_types import KV_TYPES, NUMBER_BYTES
from membank_llama.kv.opening import OpenContext, open_kv_cache
from membank_llama.kv.piece_store import PieceStore
from membank_llama.kv.token_batch import TokenBatch

from ...asgi import AbandonedError
from .grammars import GrammarConstraint, follower
from .sequences import SEQUENCES, HeldSequences
from .template_process import TemplateProcess

_BATCH = 512
_NULL = -1
_NO_ROOM = 1
_PLAIN = 8
_SPARING = 0.75
# control tokens that a reader of the answer has to see
_SHOWN = frozenset(
    b"<think> </think> <tool_call> </tool_call> [TOOL_CALLS] [ARGS] <|python_tag|> <|tool_call|> <|/tool_call|> "
    b"<TOOLCALL> </TOOLCALL>".split()
)


@dataclass(frozen=True)
class Evaluated:
    """What a prompt cost: tokens that were evaluated, and those that the cache held already."""

    fresh: int
    cached: int


class GenerationContext:
    """A loaded model that can write.

    Args:
        path: the GGUF.
        n_ctx: tokens the context holds, prompt and answer together.
        n_threads: None: half the processors.
        n_gpu_layers: -1 for all.
        most: what the context may grow to; None: it does not.
        kv_store: where what was evaluated is kept, and restored from.
        kv_type: of the numbers in the KV cache, one of `KV_TYPES`.

    Raises:
        ModelFileError: the file is damaged, or llama.cpp can't load it.
        ModelError: there is no memory for the context.
    """

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int,
        n_threads: int | None,
        n_gpu_layers: int,
        most: int | None = None,
        kv_store: PieceStore | None = None,
        kv_type: str = KV_TYPES[0],
    ) -> None:
        self.most = max(n_ctx, most or 0)
        self.ctx: Any = None
        self.namespace = ""
        self._kv_store, self._kv_type = kv_store, kv_type
        self._kv: KVCache | None = None
        self._knows_logits = False
        self._stack = ExitStack()
        self._model = LoadedModel(path, n_gpu_layers=n_gpu_layers)
        self._stack.callback(self._model.close)
        self.renderer = TemplateProcess()
        self._stack.callback(self.renderer.close)
        self._follower = follower()
        self._stack.callback(self._follower.close)
        self._n_threads = n_threads or default_threads()
        self._n_gpu_layers = n_gpu_layers
        self._batch = TokenBatch(_BATCH)
        self._stack.callback(self._batch.free)
        self._stack.callback(self._free)
        try:
            self._look()
            self._open(n_ctx)
        except BaseException:
            self.close()
            raise

    def _look(self) -> None:
        """What the model is and takes."""
        self.vocab = llama_cpp.llama_model_get_vocab(self._model.handle)
        self.n_vocab = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        tag = tag_of(self.meta("tokenizer.chat_template"))
        self._shown = _SHOWN if tag is None else _SHOWN | {token.encode() for token in tag.tokens}
        self.bos = self._text(llama_cpp.llama_vocab_bos(self.vocab))
        self.eos = self._text(llama_cpp.llama_vocab_eos(self.vocab))

    def _open(self, n_ctx: int, share: float = 1.0) -> None:
        """Make a context, which may take that `share` of the memory that is free."""
        free = available_memory()
        if free is not None and self._is_plain(loosely=share < 1) and self._cache_bytes(n_ctx) > share * free:
            raise _no_memory(n_ctx)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = min(_BATCH, n_ctx)
        params.n_threads = params.n_threads_batch = self._n_threads
        params.type_k = params.type_v = GGML_TYPES[self._kv_type]
        # llama.cpp tries a batch of one token a sequence, and ends the process where that is too many
        count = 1 if self._model.is_recurrent or n_ctx <= SEQUENCES else SEQUENCES
        params.n_seq_max, params.kv_unified = (1, False) if count == 1 else (count + 1, True)
        params.no_perf = True
        with quiet():
            ctx = llama_cpp.llama_init_from_model(self._model.handle, params)
        if not ctx:
            raise _no_memory(n_ctx)
        self.ctx = ctx
        # llama.cpp rounds up; nobody gets more than was asked for
        self.n_ctx = min(n_ctx, int(llama_cpp.llama_n_ctx(ctx)))
        self.nbytes = int(llama_cpp.llama_model_size(self._model.handle)) + self._cache_bytes(self.n_ctx)
        self.vram = int(self.nbytes * self._share(self._n_gpu_layers))
        self._sequences = HeldSequences(ContextCells(ctx, count, self.n_vocab), count, self.n_ctx)
        self._kv = self._kv_cache(params, count)

    def _kv_cache(self, params: Any, spare: int) -> KVCache | None:
        context = OpenContext(
            self.ctx, self._model.handle, params, self._model.path, spare, self._n_gpu_layers, self.bytes_of
        )
        return open_kv_cache(self._kv_store, context)

    def _free(self) -> None:
        if self._kv is not None:
            self._kv.close()
            self._kv = None
        if self.ctx is not None:
            llama_cpp.llama_free(self.ctx)
            self.ctx = None

    def grow(self, n_ctx: int) -> None:
        """Have a context of so many tokens, or of what there is memory for, in place of a smaller one and all it held.

        Raises:
            ModelError: there is no memory even for what there was.
        """
        before, size = self.n_ctx, min(n_ctx, self.most)
        self._free()
        while size > before:
            try:
                self._open(size, share=_SPARING)
                return
            except ModelError:
                # not tried again at every turn: each try costs what the cache holds
                self.most = size = size // 2
        self._open(before)

    def _cache_bytes(self, n_ctx: int) -> int:
        heads = self._number("attention.head_count") or 1
        width = self._model.n_embd * (self._number("attention.head_count_kv") or heads) // heads
        return int(2 * NUMBER_BYTES[self._kv_type] * self._model.n_layer * width * n_ctx)

    def _share(self, n_gpu_layers: int) -> float:
        """What part of the model a graphics card holds."""
        if not llama_cpp.llama_supports_gpu_offload():
            return 0.0
        layers = self._model.n_layer + 1
        return 1.0 if n_gpu_layers < 0 else min(1.0, n_gpu_layers / layers)

    def _number(self, key: str) -> int:
        value = self._model.meta(f"{self._model.architecture}.{key}") or ""
        return int(value) if value.isascii() and value.isdigit() else 0

    def _is_plain(self, *, loosely: bool) -> bool:
        """Whether the cache lies in main memory and holds all tokens in all layers, so that its size is known.

        `loosely`: or no more than that.
        """
        saves = ("attention.sliding_window", "attention.kv_lora_rank", "ssm.state_size")
        on_gpu = llama_cpp.llama_supports_gpu_offload()
        return not on_gpu and (loosely or not (self._model.is_recurrent or any(self._number(key) for key in saves)))

    def _text(self, token: int) -> str:
        if token == _NULL:
            return ""
        found = llama_cpp.llama_vocab_get_text(self.vocab, token)
        return found.decode("utf-8", "replace") if found else ""

    def meta(self, key: str) -> str | None:
        """A value of the file's metadata as text, or None."""
        return self._model.meta(key)

    def tokenize(self, text: str, *, whole: bool = True) -> list[int]:
        """Token ids, control tokens read as such; BOS in front of a whole text that the model wants it for."""
        adds = whole and bool(llama_cpp.llama_vocab_get_add_bos(self.vocab))
        tokens = self._model.tokenize(text, specials=True, add=whole)
        bos = llama_cpp.llama_vocab_bos(self.vocab)
        if adds and self.bos and tokens[:2] == [bos, bos]:
            # the text began with it already
            return tokens[1:]
        return tokens

    def exceeds(self, text: str, n_ctx: int | None = None) -> bool:
        """Whether a text is certainly longer than the context, told by its bytes: nothing of it is tokenized."""
        held = n_ctx or self.n_ctx
        # few texts get to the second question, which looks through the whole vocabulary once
        return len(text) > _PLAIN * held and len(text.encode()) > self._model.tokenizer.longest * held

    def constraint(self, grammar: str, cancelled: Event) -> GrammarConstraint:
        """A grammar over this model's vocabulary; the one before it is given up."""
        return GrammarConstraint(self._follower, str(self._model.path), grammar, self.n_vocab, cancelled)

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for in an answer; none for most control tokens."""
        plain = self._piece(token, special=False)
        if plain:
            return plain
        shown = self._piece(token, special=True)
        return shown if shown in self._shown else b""

    def spell(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens and all."""
        return self.bytes_of(tokens).decode("utf-8", "replace")

    def bytes_of(self, tokens: Sequence[int]) -> bytes:
        """The bytes of tokens, control tokens and all."""
        return b"".join(self._piece(token, special=True) for token in tokens)

    def spelling(self, token: int) -> bytes:
        """The bytes of a token, of a control token too."""
        return self._piece(token, special=True)

    def _piece(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def ends(self, token: int) -> bool:
        """Whether a token ends the answer."""
        return bool(llama_cpp.llama_vocab_is_eog(self.vocab, token))

    def infill(self) -> tuple[int, int, int] | None:
        """The tokens around prefix, suffix and middle, of a model that fills in; else None."""
        c = llama_cpp
        found = tuple(int(f(self.vocab)) for f in (c.llama_vocab_fim_pre, c.llama_vocab_fim_suf, c.llama_vocab_fim_mid))
        return None if _NULL in found else (found[0], found[1], found[2])

    @property
    def room(self) -> int:
        """Tokens that still fit behind what is held."""
        return self.n_ctx - len(self._sequences.current.tokens)

    def threads(self, count: int | None) -> None:
        """Threads for the next evaluations; None: as it was loaded."""
        if self.ctx is None:
            # the memory for it was gone once
            self._open(self.n_ctx)
        number = max(1, min(count, 2 * (os.cpu_count() or 1))) if count and count > 0 else self._n_threads
        llama_cpp.llama_set_n_threads(self.ctx, number, number)

    def evaluate(self, tokens: Sequence[int], cancelled: Event) -> Evaluated:
        """Make the context hold exactly `tokens`, at least one; the last one is always evaluated, for its logits.

        Raises:
            AbandonedError: `cancelled` was set meanwhile.
            ModelError: llama.cpp failed.
        """
        self._knows_logits = False
        kept = self._sequences.turn_to(tokens, self.namespace)
        if self._kv is not None:
            kept = self._kv.restore(self.namespace, tokens, self._sequences.current.seq, kept)
            self._sequences.grow_to(tokens[:kept])
        for start in range(kept, len(tokens), _BATCH):
            if cancelled.is_set():
                raise AbandonedError
            self._decode(tokens[start : start + _BATCH])
        return Evaluated(len(tokens) - kept, kept)

    def push(self, token: int) -> None:
        """Evaluate one token more."""
        self._decode([token])

    def keep(self, since: str = "") -> None:
        """Have what the newest prompt and its answer came to written, where there is a place for it.

        Args:
            since: the KV store's epoch ahead of the prompt; the default where nothing was ever forgotten.
        """
        if self._kv is not None and self.ctx is not None:
            current = self._sequences.current
            top = self._kv.cells.top_logits() if self._knows_logits else None
            self._kv.keep(self.namespace, current.tokens, current.seq, since, top)

    def _decode(self, tokens: Sequence[int]) -> None:
        current = self._sequences.current
        code = self._batch.decode(self.ctx, current.seq, tokens, len(current.tokens))
        while code == _NO_ROOM and self._sequences.let_one_go():
            code = self._batch.decode(self.ctx, current.seq, tokens, len(current.tokens))
        if code != 0:
            self._sequences.clear()
            raise ModelError(f"llama.cpp could not evaluate {len(tokens)} tokens (code {code})")
        current.tokens.extend(tokens)
        self._knows_logits = True

    def logits(self) -> npt.NDArray[np.float32]:
        """Of the last token evaluated, ``(n_vocab,)``; a view that the next evaluation overwrites."""
        pointer = llama_cpp.llama_get_logits_ith(self.ctx, -1)
        if not pointer:
            raise ModelError("llama.cpp gave no logits")
        view: npt.NDArray[np.float32] = np.ctypeslib.as_array(pointer, (self.n_vocab,))
        return view

    def close(self) -> None:
        """Free the context, then the weights."""
        with quiet():
            self._stack.close()


def available_memory() -> int | None:
    """Bytes that can be taken without pushing anything out; None where the system does not say."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    return None


def _no_memory(n_ctx: int) -> ModelError:
    return ModelError(f"there is no memory for a context of {n_ctx:,} tokens; ask for a smaller num_ctx")
