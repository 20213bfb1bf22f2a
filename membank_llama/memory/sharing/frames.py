"""Frames between two processes of one machine: four bytes of length, then JSON in UTF-8, never more than a limit.

Whoever is silent, slow or sends nonsense loses its own connection: every wait within a frame ends.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from typing import Any

MOST_BYTES_A_FRAME = 64 << 20
MOST_BYTES_OF_A_GREETING = 1024
FRAME_SECONDS = 30.0
"""The longest that a frame may take from its first byte to its last."""

_LENGTH = struct.Struct(">I")
_PIECE = 1 << 18


class BrokenLineError(ConnectionError):
    """The other end has gone, is silent where it should speak, or sends what is no frame."""


class FrameTooLongError(ValueError):
    """What is to be sent is longer than a frame may be."""


class SilentLineError(BrokenLineError):
    """The other end is there and says nothing."""


def send(line: socket.socket, value: Any, seconds: float = FRAME_SECONDS) -> None:
    """Send a value as one frame.

    Raises:
        BrokenLineError: nobody takes it.
        FrameTooLongError: it is too long.
    """
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if len(data) > MOST_BYTES_A_FRAME:
        raise FrameTooLongError(f"it takes {len(data):,} bytes, and a frame holds {MOST_BYTES_A_FRAME:,}")
    try:
        line.settimeout(seconds)
        line.sendall(_LENGTH.pack(len(data)) + data)
    except OSError as exc:
        raise BrokenLineError(str(exc)) from exc


def takes_more(line: socket.socket) -> bool:
    """Whether something short could be sent without a wait."""
    try:
        return bool(select.select([], [line], [], 0)[1])
    except (OSError, ValueError):
        return False


def receive(line: socket.socket, limit: int = MOST_BYTES_A_FRAME, seconds: float | None = None) -> dict[str, Any]:
    """The next frame, which is an object.

    Args:
        limit: bytes that it may have.
        seconds: how long to wait for its beginning; None: as long as it takes.

    Raises:
        BrokenLineError: there comes none; SilentLineError: none within those seconds.
    """
    try:
        line.settimeout(seconds)
        try:
            head = line.recv(_LENGTH.size)
        except TimeoutError as exc:
            raise SilentLineError(f"nothing was said for {seconds} s") from exc
        until = time.monotonic() + FRAME_SECONDS
        head += _exactly(line, _LENGTH.size - len(head), until) if head else b""
        if not head:
            raise BrokenLineError("the other end has closed")
        (size,) = _LENGTH.unpack(head)
        if size > limit:
            raise BrokenLineError(f"a frame of {size:,} bytes was announced, and {limit:,} are let in")
        value = json.loads(_exactly(line, size, until).decode("utf-8", "surrogatepass"))
    except (OSError, ValueError, RecursionError) as exc:
        if isinstance(exc, BrokenLineError):
            raise
        raise BrokenLineError(str(exc)) from exc
    if not isinstance(value, dict):
        raise BrokenLineError("a frame holds no object")
    return value


def _exactly(line: socket.socket, size: int, until: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        left = until - time.monotonic()
        if left <= 0:
            raise BrokenLineError("a frame was begun and not ended")
        line.settimeout(left)
        piece = line.recv(min(_PIECE, size - len(data)))
        if not piece:
            raise BrokenLineError("the other end has closed within a frame")
        data += piece
    return bytes(data)
