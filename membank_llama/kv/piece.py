"""`Piece`: some tokens of a sequence and their cells in the KV cache, as a file.

A file is a head, signed with this machine's key, and parts that the head names by place, length and SHA-256. The cells
are whatever llama.cpp exported: native code reads them back, so nothing is handed to it that this machine has not
written itself. Layout: magic, length of the head, signature (32 bytes), head (JSON), then the parts, each at a
multiple of 64 bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import BankCorruptError
from membank_llama.core.plain_files import open_unfollowed

Tokens = npt.NDArray[np.int32]
Cells = npt.NDArray[np.uint8]

FORMAT = 2
_MAGIC = b"MBKVPCE1"
_PRELUDE = struct.Struct("<8sI32s")
_ALIGN = 64
_MOST_HEAD = 1 << 20
_PARTS = ("tokens", "text", "top_ids", "top_logits", "cells")


def digest_of(tokens: Tokens) -> bytes:
    """SHA-256 of token ids: what stands for all that came before a piece."""
    return hashlib.sha256(np.ascontiguousarray(tokens, "<i4").tobytes()).digest()


@dataclass(frozen=True)
class TopLogits:
    """The greatest next-token logits behind a token: ids and values, both ``(k,)``; empty where nobody saw them."""

    ids: Tokens = field(default_factory=lambda: np.zeros(0, np.int32))
    values: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True)
class Piece:
    """What cells stand for.

    Args:
        namespace: whose it is; nobody else is ever given it.
        key: what the numbers depend on beside the tokens, as `context_key.py` puts it together.
        model: the model's name, for people.
        start: tokens ahead of it in its sequence.
        prefix: `digest_of` those.
        tokens: ids of its own, ``(n,)``.
        text: the bytes that they spell, control tokens and all, behind the last few ahead of them.
        ancestors: ids of the pieces that it was evaluated behind.
        top: the logits behind its last token.
        ahead: how many bytes of the text are of tokens ahead of its own.
    """

    namespace: str
    key: str
    model: str
    start: int
    prefix: bytes
    tokens: Tokens
    text: bytes = b""
    ancestors: tuple[str, ...] = ()
    top: TopLogits = field(default_factory=TopLogits)
    ahead: int = 0

    @property
    def end(self) -> int:
        """Tokens of the sequence up to its last."""
        return self.start + len(self.tokens)

    @cached_property
    def id(self) -> str:
        """32 hex digits: the same tokens behind the same ones have the same."""
        return hashlib.sha256(self.prefix + digest_of(self.tokens)).hexdigest()[:32]

    @property
    def filename(self) -> str:
        """The name of its file."""
        return f"{self.start:08d}-{self.end:08d}-{self.id}.kv"


@dataclass(frozen=True)
class StoredPiece:
    """A piece in a file, or on its way into one, in which case `waiting` is its cells."""

    piece: Piece
    path: Path
    nbytes: int
    cells_at: int = 0
    cells_bytes: int = 0
    cells_sha256: str = ""
    waiting: Cells | None = None

    def cells(self) -> Cells:
        """The cells, checked; of a file they are mapped, not copied.

        Raises:
            BankCorruptError: the file is gone, or not what was written.
        """
        if self.waiting is not None:
            return self.waiting
        data = _mapped(self.path)
        found = data[self.cells_at : self.cells_at + self.cells_bytes]
        if len(data) != self.nbytes or hashlib.sha256(found.data).hexdigest() != self.cells_sha256:
            raise _damaged(self.path)
        return found


def encode(piece: Piece, cells: Cells, secret: bytes) -> Iterator[bytes | memoryview]:
    """The bytes of a piece's file, in order."""
    parts: Sequence[bytes | memoryview] = [
        piece.tokens.astype("<i4").tobytes(),
        piece.text,
        piece.top.ids.astype("<i4").tobytes(),
        piece.top.values.astype("<f4").tobytes(),
        np.ascontiguousarray(cells).data,
    ]
    placed = {name: [len(part), hashlib.sha256(part).hexdigest()] for name, part in zip(_PARTS, parts, strict=True)}
    head = json.dumps(
        {
            "format": FORMAT,
            "namespace": piece.namespace,
            "key": piece.key,
            "model": piece.model,
            "start": piece.start,
            "prefix": piece.prefix.hex(),
            "ahead": piece.ahead,
            "ancestors": piece.ancestors,
            "parts": placed,
        }
    ).encode()
    yield _PRELUDE.pack(_MAGIC, len(head), _signature(head, secret))
    yield head
    at = _PRELUDE.size + len(head)
    for part in parts:
        yield bytes(-at % _ALIGN)
        at += -at % _ALIGN + len(part)
        yield part


def read_piece(path: Path, secret: bytes) -> StoredPiece:
    """A piece without its cells.

    Raises:
        BankCorruptError: the file is damaged, cut short, or was not written here.
    """
    data = _mapped(path)
    if len(data) < _PRELUDE.size:
        raise _damaged(path)
    magic, length, signature = _PRELUDE.unpack(data[: _PRELUDE.size].tobytes())
    head_bytes = data[_PRELUDE.size : _PRELUDE.size + min(length, _MOST_HEAD)].tobytes()
    if magic != _MAGIC or length != len(head_bytes):
        raise _damaged(path)
    if not hmac.compare_digest(_signature(head_bytes, secret), signature):
        raise _damaged(path)
    try:
        return _stored(path, data, json.loads(head_bytes), _PRELUDE.size + length)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise _damaged(path) from exc


def _stored(path: Path, data: Cells, head: dict[str, Any], at: int) -> StoredPiece:
    if head["format"] != FORMAT:
        raise _damaged(path)
    found: dict[str, Cells] = {}
    places: dict[str, int] = {}
    for name in _PARTS:
        length, expected = head["parts"][name]
        gap, at = at, at + -at % _ALIGN
        if data[gap:at].any():
            raise _damaged(path)
        places[name] = at
        found[name] = data[at : at + length]
        at += length
        if name != "cells" and hashlib.sha256(found[name].data).hexdigest() != expected:
            raise _damaged(path)
    if at != len(data):
        raise _damaged(path)
    piece = Piece(
        namespace=str(head["namespace"]),
        key=str(head["key"]),
        model=str(head["model"]),
        start=int(head["start"]),
        prefix=bytes.fromhex(head["prefix"]),
        tokens=found["tokens"].view("<i4").astype(np.int32),
        text=found["text"].tobytes(),
        ahead=int(head["ahead"]),
        ancestors=tuple(map(str, head["ancestors"])),
        top=TopLogits(
            found["top_ids"].view("<i4").astype(np.int32), found["top_logits"].view("<f4").astype(np.float32)
        ),
    )
    return StoredPiece(piece, path, len(data), places["cells"], *head["parts"]["cells"])


def _signature(head: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, head, hashlib.sha256).digest()


def _mapped(path: Path) -> Cells:
    """A whole file, mapped for reading; it may be deleted meanwhile."""
    try:
        descriptor = open_unfollowed(path)
        try:
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as exc:
        raise _damaged(path) from exc
    return np.frombuffer(mapped, np.uint8)


def is_gone(exc: BankCorruptError) -> bool:
    """Whether a piece could not be read because its file is there no more: another turn needed its room."""
    return isinstance(exc.__cause__, FileNotFoundError)


def _damaged(path: Path) -> BankCorruptError:
    return BankCorruptError(
        f"{path} is damaged or was not written on this machine; nothing is lost, what it held is evaluated again "
        "(membank kv gc deletes it)"
    )
