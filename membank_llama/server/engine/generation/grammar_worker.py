"""What a child process does with grammars: makes them of JSON schemas, and says which tokens they admit.

llama.cpp follows a grammar by keeping every way in which it may go on, and there may be more of them than any memory
holds; some schemas end it. Here that is a child's end (see child_process.py). A request is one letter and what
belongs to it; see `handle_grammar_request`.
"""

from __future__ import annotations

import ctypes
import json
import struct
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import llama_grammar

from membank_llama.adapters.llama_cpp.loaded_model import load_native

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
CONVERT, OPEN, TRY, TAKE = b"s", b"o", b"t", b"a"
YES, NO = b"+", b"-"
_TOKEN = struct.Struct("<i")
# the converter lets control characters through in strings, which is no JSON
_LOOSE, _STRICT = r'char ::= [^"\\] |', r'char ::= [^"\\\x7F\x00-\x1F] |'


def candidates(data: np.ndarray[Any, Any]) -> Any:
    """llama.cpp's view of an array of `CANDIDATE`."""
    pointer = data.ctypes.data_as(llama_cpp.llama_token_data_p)
    return llama_cpp.llama_token_data_array(pointer, len(data), -1, False)


class _Follower:
    """One grammar over the vocabulary of one model."""

    def __init__(self) -> None:
        self._path = ""
        self._model: Any = None
        self._grammar: Any = None
        self._n_vocab = 0

    def open(self, path: str, grammar: str) -> bool:
        self.close()
        if path != self._path:
            self._model = load_native(path, vocab_only=True)
            self._path = path if self._model else ""
        if not self._model:
            return False
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._n_vocab = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self._grammar = llama_cpp.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
        return bool(self._grammar)

    def close(self) -> None:
        if self._grammar:
            llama_cpp.llama_sampler_free(self._grammar)
        self._grammar = None

    def admitted(self, tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        data = np.zeros(len(tokens), CANDIDATE)
        data["id"], data["logit"] = tokens, 1.0
        llama_cpp.llama_sampler_apply(self._grammar, ctypes.byref(candidates(data)))
        finite: np.ndarray[Any, Any] = np.isfinite(data["logit"])
        return finite

    def every(self) -> bytes:
        return np.packbits(self.admitted(np.arange(self._n_vocab, dtype=np.int32))).tobytes()

    def take(self, token: int) -> None:
        llama_cpp.llama_sampler_accept(self._grammar, token)

    @property
    def is_open(self) -> bool:
        return bool(self._grammar)


_FOLLOWER = _Follower()


def handle_grammar_request(request: bytes) -> bytes:
    """`CONVERT` a schema; `OPEN` a grammar for a model's file; `TRY` a token, which is taken if it is admitted, and
    else answered with one bit for each that is; `TAKE` one that is known to be."""
    kind, rest = request[:1], request[1:]
    if kind == CONVERT:
        return _converted(rest)
    if kind == OPEN:
        return YES if _FOLLOWER.open(*json.loads(rest)) else NO
    if not _FOLLOWER.is_open:
        return NO
    (token,) = _TOKEN.unpack(rest)
    if kind == TRY and not _FOLLOWER.admitted(np.array([token], np.int32))[0]:
        return YES + _FOLLOWER.every()
    _FOLLOWER.take(token)
    return YES


def _converted(schema: bytes) -> bytes:
    try:
        made = str(llama_grammar.json_schema_to_gbnf(schema.decode())).replace(_LOOSE, _STRICT)
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError, MemoryError) as exc:
        return NO + (str(exc)[:200] or type(exc).__name__).encode("utf-8", "replace")
    return YES + made.encode("utf-8", "replace")
