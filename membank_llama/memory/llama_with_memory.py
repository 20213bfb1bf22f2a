"""The drop-in: `llama_cpp.Llama` with a memory.

Takes what `llama_cpp.Llama` takes and returns what it returns. The newest user message is answered with memories in
the prompt, and both sides are remembered once the reply is there. With nothing to recall, every token is the same as
without membank-llama.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import llama_cpp
import numpy as np
from jinja2 import TemplateError

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.adapters.llama_cpp.chat_formats import make_patient
from membank_llama.adapters.llama_cpp.private_api import SpareSequence
from membank_llama.adapters.llama_cpp.tokenizer import MOST_DIGITS, Tokenizer, needs_cuts
from membank_llama.adapters.llama_cpp.vocabulary import Vocabulary
from membank_llama.core.errors import InvalidInputError
from membank_llama.core.paths import default_bank
from membank_llama.core.surrogates import repaired_text
from membank_llama.core.thoughts import begins_thought, tag_of
from membank_llama.gguf.checks import check_loadable, unreadable_template
from membank_llama.kv.cover import common_length
from membank_llama.kv.llama_prefix import LlamaPrefix
from membank_llama.kv.piece_store import open_pieces
from membank_llama.store.model_record import captured_as, recorded_model

from .bank import MemBank
from .call_queue import CallQueue, ReplyStream
from .chat_memory import ChatMemory, PendingTurn
from .conversation_keys import blocks_in
from .guarded_replies import EchoWatch
from .prompt_block import holds_block
from .prompt_injection import MemoryOptions
from .sharing.shared_bank import open_shared

_COMPLETION = inspect.signature(llama_cpp.Llama.create_completion)
_CHAT = inspect.signature(llama_cpp.Llama.create_chat_completion)

_END = 48
"""Tokens of a prompt that are looked at for the beginning of a thought."""

AnyLlama = TypeVar("AnyLlama", bound=llama_cpp.Llama)


def _as(original: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Carry over name, documentation and signature of the method that is extended."""
    return wraps(original)


class SafeLlama(llama_cpp.Llama):
    """A `llama_cpp.Llama` that no text ends and no conversation: what its pre-tokenizer can't bear at once goes over in
    pieces, and messages that its chat template refuses are laid out as it takes them."""

    begun_thought = False
    """Whether the prompt that is being continued ends within a thought."""
    kv: LlamaPrefix | None = None
    """What is restored into the context in place of being evaluated; None without a bank."""
    on_read: Callable[[int], None] | None = None
    """Called with how many tokens of a prompt are about to be evaluated."""
    context_params = SpareSequence()
    _pieces: Tokenizer

    @_as(llama_cpp.Llama.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        make_patient(self)

    @_as(llama_cpp.Llama.create_completion)
    def create_completion(self, *args: Any, **kwargs: Any) -> Any:
        prompt = args[0] if args else kwargs.get("prompt", "")
        end = (
            prompt
            if isinstance(prompt, str)
            else self.detokenize(list(prompt[-_END:]), special=True).decode("utf-8", "replace")
        )
        self.begun_thought = begins_thought(end)
        return super().create_completion(*args, **self._watched(kwargs))

    def _watched(self, call: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a completion that is about to begin."""
        return call

    @_as(llama_cpp.Llama.generate)
    def generate(self, tokens: Sequence[int], *args: Any, **kwargs: Any) -> Any:
        tokens = list(tokens)
        if self.kv is not None and kwargs.get("reset", True):
            self.kv.prepare(tokens)
        if self.on_read is not None:
            held = self.input_ids[: self.n_tokens].astype(np.int32)
            self.on_read(len(tokens) - common_length(held, np.array(tokens, np.int32)))
        return super().generate(tokens, *args, **kwargs)

    @_as(llama_cpp.Llama.tokenize)
    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        said = text.decode("utf-8", "replace") if len(text) > MOST_DIGITS else ""
        if not needs_cuts(said):
            return list(super().tokenize(text, add_bos, special))
        if "_pieces" not in self.__dict__:
            this = weakref.proxy(self)
            self._pieces = Tokenizer(lambda: llama_cpp.llama_model_get_vocab(this.model))
        tokens = self._pieces.framing(first=True) if add_bos else []
        for piece in self._pieces.pieces(said):
            tokens += super().tokenize(piece.encode(), False, special)
        return list(tokens + (self._pieces.framing(first=False) if add_bos else []))


class RememberingLlama(SafeLlama):
    """What is added to a `llama_cpp.Llama`; use `Llama` or `remember()`."""

    memory: ChatMemory
    """The conversation's memory: `memory.last`, `memory.bank`, `memory.flush()`."""

    _calls: CallQueue
    _vocabulary: Vocabulary
    _own_adapter: ModelAdapter | None
    _watch: EchoWatch | None = None

    def _attach(
        self, bank: MemBank, options: MemoryOptions | None, *, own_bank: bool, kv: str | int | bool | None
    ) -> None:
        make_patient(self, holds_block)
        self._vocabulary = Vocabulary(self)
        self._thought_tag = tag_of(self.metadata.get("tokenizer.chat_template"))
        self._calls = CallQueue()
        self.memory = ChatMemory(bank, self._vocabulary, options, own_bank=own_bank, settle=self._calls.settle)
        pieces = None if bank.read_only else open_pieces(bank.path, kv)
        memory = self.memory
        self.kv = LlamaPrefix(self, pieces, lambda: memory.options.namespace)
        # whoever forgets close() loses nothing; finalizers run newest first, so the model is still open then
        weakref.finalize(self, _close_at_exit, weakref.ref(self))

    @_as(llama_cpp.Llama.create_completion)
    def create_completion(self, *args: Any, **kwargs: Any) -> Any:
        if self._calls.inside:
            return super().create_completion(*args, **kwargs)
        with self._calls.turn():
            self._begin()
            call = _COMPLETION.bind(self, *args, **kwargs).arguments
            # an infill has no user who asks
            turn: PendingTurn | None = None
            plain = prompt = call.pop("prompt")
            block = ""
            if call.get("suffix") is None:
                prompt, block, turn = self._with_memory(plain, call.get("max_tokens", 16))
            call.pop("self")
            with self._watching(block, call) as watch:
                result: Any = super().create_completion(prompt, **call)
            if call.get("stream"):
                return self._stream(result, turn, watch, _completion_text)
            reply = _completion_text(result)
            if call.get("echo"):
                # llama_cpp echoes text alone; the caller gets back the prompt it gave, without the block
                reply = reply.removeprefix(prompt)
                result["choices"][0]["text"] = plain + reply
            cut = None if watch is None else watch.cut(reply, self.begun_thought)
            if cut is not None:
                reply = cut
                result["choices"][0].update(text=plain + cut if call.get("echo") else cut, finish_reason="stop")
            self._learn(turn, reply)
            return result

    @_as(llama_cpp.Llama.create_chat_completion)
    def create_chat_completion(self, *args: Any, **kwargs: Any) -> Any:
        if self._calls.inside:
            return super().create_chat_completion(*args, **kwargs)
        with self._calls.turn():
            self._begin()
            call = _CHAT.bind(self, *args, **kwargs).arguments
            call.pop("self")
            messages, turn = self.memory.for_messages(call.pop("messages"), call.get("max_tokens"))
            with self._watching(blocks_in(messages), call) as watch:
                result: Any = super().create_chat_completion(cast(Any, messages), **call)
            if call.get("stream"):
                return self._stream(result, turn, watch, _delta_text)
            reply = _message_text(result)
            cut = None if watch is None else watch.cut(reply, self.begun_thought)
            if cut is not None:
                reply = cut
                result["choices"][0]["message"]["content"] = cut
                result["choices"][0]["finish_reason"] = "stop"
            self._learn(turn, reply)
            return result

    def _begin(self) -> None:
        if self.kv is not None:
            self.kv.begin()

    @contextmanager
    def _watching(self, block: str, call: dict[str, Any]) -> Iterator[EchoWatch | None]:
        """Look out for a reply that goes on writing the block; one that has to follow a grammar does not."""
        bound = any(call.get(name) for name in ("grammar", "response_format", "tools", "functions"))
        self._watch = EchoWatch(block, self._thought_tag, self._vocabulary.pieces) if block and not bound else None
        try:
            yield self._watch
        finally:
            self._watch = None

    def _watched(self, call: dict[str, Any]) -> dict[str, Any]:
        if self._watch is None or call.get("stream"):
            return call
        criterion = self._watch.criterion(self.begun_thought)
        given = call.get("stopping_criteria") or ()
        return {**call, "stopping_criteria": llama_cpp.StoppingCriteriaList([*given, criterion])}

    @_as(llama_cpp.Llama.embed)
    def embed(self, *args: Any, **kwargs: Any) -> Any:
        if self._calls.inside:
            return super().embed(*args, **kwargs)
        with self._calls.turn():
            return super().embed(*args, **kwargs)

    def _with_memory(
        self, prompt: str | list[int], max_tokens: int | None
    ) -> tuple[str | list[int], str, PendingTurn | None]:
        """A raw prompt with memories in its newest user turn, and their block."""
        if isinstance(prompt, str):
            prompt = repaired_text(prompt)
            at, block, turn = self.memory.for_prompt(prompt, max_tokens)
            return prompt[:at] + block + prompt[at:], block, turn
        pieces = self._vocabulary.pieces(prompt)
        text = b"".join(pieces).decode("utf-8", "replace")
        at, block, turn = self.memory.for_prompt(text, max_tokens)
        if not block:
            return prompt, "", turn
        index = _token_at(pieces, len(text[:at].encode("utf-8")))
        if index == 0 and prompt[:1] == [self.token_bos()]:
            index = 1
        return prompt[:index] + self._vocabulary.tokens(block) + prompt[index:], block, turn

    def _learn(self, turn: PendingTurn | None, reply: str) -> None:
        self.memory.learn(turn, reply, begun=self.begun_thought)
        if self.kv is not None:
            self.kv.keep()

    def _stream(self, inner: Any, turn: PendingTurn | None, watch: EchoWatch | None, text_of: Any) -> ReplyStream:
        memory, begun, this = self.memory, self.begun_thought, weakref.ref(self)
        if watch is not None:
            inner = watch.stream(inner, begun)

        def done(said: str, partial: bool) -> None:
            # a call that failed or was dropped before its first word will be made again
            if said or not partial:
                memory.learn(turn, said, partial=partial, begun=begun)
            kept = this()
            if kept is not None and kept.kv is not None:
                kept.kv.keep()

        stream = ReplyStream(inner, text_of, done, self._calls.guard)
        self._calls.leave_open(stream)
        return stream

    def close(self) -> None:
        """Store what is waiting, close a bank that was opened here, free the model."""
        memory = getattr(self, "memory", None)
        if memory is not None:
            self._calls.end()
            memory.close()
        if self.kv is not None:
            self.kv.close()
        adapter = getattr(self, "_own_adapter", None)
        if adapter is not None:
            adapter.close()
        # llama_cpp calls close() from __del__ even where its __init__ never ran
        if hasattr(self, "_stack"):
            super().close()


def _close_at_exit(reference: weakref.ref[RememberingLlama]) -> None:
    llm = reference()
    if llm is not None:
        llm.close()


class Llama(RememberingLlama):
    """`llama_cpp.Llama` that remembers.

    Args:
        model_path: the GGUF to chat with; every other argument of `llama_cpp.Llama` may follow.
        memory: a bank's directory, which other programs may have open too (`open_shared`), or an open `MemBank`, which
            the caller closes; the default bank where left out.
        encoder: a GGUF (or adapter) that encodes memories; the chat model's own hidden states where left out.
        memory_options: namespace, token budget and the like.
        kv: what the KV state of conversations may take on disk, beside the bank, so that what was read once is not
            read again: ``"2G"``, bytes, False for nothing; $MEMBANK_KV or 4 GiB where left out.

    Raises:
        ModelFileError: the file is missing, damaged or no GGUF.
        BankLockedError, ModelMismatchError, …: see errors.py.
    """

    def __init__(
        self,
        model_path: str,
        *,
        memory: str | Path | MemBank | None = None,
        encoder: str | Path | ModelAdapter | None = None,
        memory_options: MemoryOptions | None = None,
        kv: str | int | bool | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(memory, MemBank) and encoder is not None:
            raise InvalidInputError("an open MemBank brings its encoder; give memory as a path to choose another")
        check_loadable(model_path)
        try:
            super().__init__(model_path, **kwargs)
        except TemplateError as exc:
            raise unreadable_template(model_path, exc) from exc
        try:
            if isinstance(memory, MemBank):
                self._attach(memory, memory_options, own_bank=False, kv=kv)
                return
            path = default_bank() if memory is None else Path(memory)
            if isinstance(encoder, ModelAdapter):
                adapter = encoder
            else:
                threads = kwargs.get("n_threads_batch") or kwargs.get("n_threads")
                # as the bank was made, by whatever program
                capture = captured_as(recorded_model(path), Path(encoder or model_path))
                adapter = self._own_adapter = LlamaCppAdapter(encoder or self, n_threads=threads, **capture)
            bank = open_shared(adapter, path)
            self._attach(bank, memory_options, own_bank=True, kv=kv)
        except BaseException:
            self.close()
            raise


def remember(
    llm: AnyLlama, bank: MemBank, options: MemoryOptions | None = None, *, kv: str | int | bool | None = None
) -> AnyLlama:
    """Give an existing `llama_cpp.Llama` a memory; returns the same object, now with `llm.memory`.

    KV state is kept for a `SafeLlama` alone, whose context has room for it. The bank stays the caller's to close, after
    `llm.close()` or `llm.memory.flush()`.
    """
    if isinstance(llm, RememberingLlama):
        raise InvalidInputError("this model remembers already; see its .memory")
    # the same object with more methods: whoever holds it already remembers too
    cast(Any, llm).__class__ = _remembering(cast(Any, type(llm)))
    cast(RememberingLlama, llm)._attach(bank, options, own_bank=False, kv=kv)
    return llm


@cache
def _remembering(kind: type[llama_cpp.Llama]) -> type[llama_cpp.Llama]:
    return type(kind.__name__, (RememberingLlama, kind), {"__module__": kind.__module__})


def _completion_text(result: Any) -> str:
    return str(result["choices"][0]["text"])


def _message_text(result: Any) -> str:
    return str(result["choices"][0]["message"].get("content") or "")


def _delta_text(chunk: Any) -> str:
    choices: Sequence[Any] = chunk.get("choices") or ()
    return str(choices[0].get("delta", {}).get("content") or "") if choices else ""


def _token_at(pieces: Sequence[bytes], offset: int) -> int:
    """The first token that begins at or after a byte of the text."""
    position = 0
    for index, piece in enumerate(pieces):
        if position >= offset:
            return index
        position += len(piece)
    return len(pieces)
