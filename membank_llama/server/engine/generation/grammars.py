"""Grammars: what `format` asks for, in the language that llama.cpp constrains its choice by.

A schema comes from a client, and both making a grammar of it and following that can take more than any machine has. So
its size, depth and counts are bounded here; a child process makes the grammar (see grammar_worker.py), and another one
follows it (`GrammarConstraint`).
"""

from __future__ import annotations

import atexit
import json
import re
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_grammar

from membank_llama.core.child_process import ChildError, ChildProcess, Flag

from ...asgi import AbandonedError, WireError
from .grammar_worker import CONVERT, NO, OPEN, TAKE, TRY, YES

_DEEPEST = 64
_LONGEST = 2000  # llama.cpp repeats a rule no more often
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_MOST_BYTES = 256 * 1024
_MOST_PARTS = 20_000
_MOST_VALUES = 4000
_MOST_OPTIONAL = 200
_MOST_PATTERN = 1000
_MOST_UNFOLDED = 4000
_MOST_GRAMMAR = 1024 * 1024
_MOST_NUMBER = 2**63
_NOT_CHARACTERS = frozenset("?*+|^$")
# repetition, escape, class, or one character
_PATTERN_PART = re.compile(r"\{(\d{1,18}),?(\d{0,18})\}|\\.|\[(?:\\.|[^\]\\])*\]|.", re.DOTALL)

_MEMORY = 768 * 1024 * 1024
_CONVERT_SECONDS = 3.0
_OPEN_SECONDS = 30.0
_STEP_SECONDS = 5.0
_SPARE_SECONDS, _TOKEN_SECONDS = 20.0, 0.25
"""What following a grammar may take in all: the first, and the second for each token."""
_WORKER = "membank_llama.server.engine.generation.grammar_worker:handle_grammar_request"
_CONVERTER = ChildProcess(_WORKER, _MEMORY)
atexit.register(_CONVERTER.close)


def of_format(wanted: Any) -> str | None:
    """The grammar of a request's `format`: ``"json"``, a JSON schema, or nothing. Waits for a child process.

    Raises:
        WireError: it is neither, or the schema asks for what can't be written down.
    """
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return str(llama_grammar.JSON_GBNF)
    if not isinstance(wanted, dict):
        shown = json.dumps(wanted)[:80]
        raise WireError(400, f'invalid format: {shown}; expected "json" or a valid JSON Schema object')
    return of_schema(wanted)


def of_schema(schema: Mapping[str, Any]) -> str:
    """The grammar of a JSON schema. Waits for a child process.

    Raises:
        WireError: the schema is impossible, or larger than anything that a model could follow.
    """
    _check(schema)
    written = json.dumps(schema)
    if len(written) > _MOST_BYTES:
        raise _invalid(f"it is longer than {_MOST_BYTES:,} bytes")
    try:
        answered = _CONVERTER.ask(CONVERT + written.encode(), _CONVERT_SECONDS)
    except ChildError as exc:
        raise _invalid("it takes too long or too much memory to make a grammar of it; simplify it") from exc
    text = answered[1:].decode("utf-8", "replace")
    if answered[:1] != YES:
        raise _invalid(text)
    if len(text) > _MOST_GRAMMAR:
        raise _invalid("its grammar becomes too large; simplify it")
    return text


def _invalid(why: str) -> WireError:
    return WireError(400, f"invalid JSON schema in format: {why}")


def _check(schema: Any) -> None:
    """Refuse what would take the converter more time or memory than a schema is worth."""
    depth = parts = values = 0
    level = [schema]
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise _invalid("it is nested too deeply")
        inner: list[Any] = []
        for one in level:
            if isinstance(one, Mapping):
                inner.extend(one.values())
                _check_counts(one)
                values += len(one["enum"]) if isinstance(one.get("enum"), list) else 0
            elif isinstance(one, list):
                inner.extend(one)
        parts += len(inner)
        if parts > _MOST_PARTS or values > _MOST_VALUES:
            raise _invalid(f"it has more than {_MOST_PARTS:,} parts, or {_MOST_VALUES:,} values to choose from")
        level = inner


def _check_counts(schema: Mapping[str, Any]) -> None:
    for name in _COUNTS:
        count = schema.get(name)
        if isinstance(count, int | float) and not abs(count) <= _LONGEST:
            raise _invalid(f"{name} is larger than {_LONGEST:,}")
    for name in _BOUNDS:
        bound = schema.get(name)
        if isinstance(bound, int | float) and not abs(bound) <= _MOST_NUMBER:
            raise _invalid(f"{name} is a number of more than 64 bits")
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, Mapping):
        needed = set(map(str, required)) if isinstance(required, list) else set()
        if sum(name not in needed for name in properties) > _MOST_OPTIONAL:
            raise _invalid(f"an object has more than {_MOST_OPTIONAL} optional properties; require some of them")
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        _check_pattern(pattern)


def _check_pattern(pattern: str) -> None:
    """Bound what a pattern unfolds to: llama.cpp writes every repetition down."""
    if len(pattern) > _MOST_PATTERN:
        raise _invalid(f"a pattern is longer than {_MOST_PATTERN:,} characters")
    if _unfolded(pattern) > _MOST_UNFOLDED:
        raise _invalid(f"the repetitions of a pattern come to more than {_MOST_UNFOLDED:,} characters together")


def _unfolded(pattern: str) -> int:
    """How many characters and classes a pattern has when each of its repetitions is written out."""
    sizes, last = [0], 0
    for found in _PATTERN_PART.finditer(pattern):
        part = found[0]
        if part == "(":
            sizes.append(0)
            last = 0
        elif part == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif found[1] is not None:
            more = last * (max(int(found[1]), int(found[2] or 0), 1) - 1)
            sizes[-1] += more
            last += more
        elif part not in _NOT_CHARACTERS:
            last = 1
            sizes[-1] += 1
    return sum(sizes)


class GrammarConstraint:
    """A grammar that is followed token by token, by a child process that has the model's vocabulary.

    Args:
        child: the model's own, from `follower()`; it follows one grammar at a time.
        path: the model's file.

    Raises:
        WireError: llama.cpp can't read the grammar, or takes too long to.
        AbandonedError: nobody waits any more.
    """

    def __init__(self, child: ChildProcess, path: str, grammar: str, n_vocab: int, cancelled: Flag | None) -> None:
        self._child, self._n_vocab, self._cancelled = child, n_vocab, cancelled
        self._left = _SPARE_SECONDS
        if self._ask(OPEN + json.dumps([path, grammar]).encode(), _OPEN_SECONDS)[:1] != YES:
            raise WireError(400, "llama.cpp can't make a grammar of this format; simplify the schema")

    def take(self, token: int) -> npt.NDArray[np.bool_] | None:
        """Go on by a token; where the grammar does not admit it, which of the vocabulary's it does, and stay."""
        answered = self._step(TRY, token)
        if len(answered) == 1:
            return None
        bits = np.unpackbits(np.frombuffer(answered, np.uint8, offset=1), count=self._n_vocab)
        return bits.astype(np.bool_)

    def taken(self, token: int) -> None:
        """Go on by a token that is known to be admitted."""
        self._step(TAKE, token)

    def _step(self, kind: bytes, token: int) -> bytes:
        started = time.monotonic()
        answered = self._ask(kind + struct.pack("<i", token), _STEP_SECONDS)
        self._left += _TOKEN_SECONDS - (time.monotonic() - started)
        if self._left < 0:
            raise _too_slow()
        if answered[:1] == NO:
            raise WireError(500, "the process that follows the grammar was ended; ask again")
        return answered

    def _ask(self, request: bytes, seconds: float) -> bytes:
        try:
            return self._child.ask(request, seconds, self._cancelled)
        except ChildError as exc:
            if exc.why == "cancelled":
                raise AbandonedError from exc
            raise _too_slow() from exc


def _too_slow() -> WireError:
    return WireError(400, "the grammar of this format takes llama.cpp too long or too much memory; simplify the schema")


def follower() -> ChildProcess:
    """A child that follows grammars for one model; closed with it."""
    return ChildProcess(_WORKER, _MEMORY)
