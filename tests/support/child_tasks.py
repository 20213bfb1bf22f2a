"""What `test_child_process.py` has a child process do."""

from __future__ import annotations

import ctypes
import os
import time


def answer(request: bytes) -> bytes:
    kind, _, rest = request.partition(b" ")
    if kind == b"pid":
        return str(os.getpid()).encode()
    if kind == b"print":
        os.write(1, b"not an answer")
        return b"printed"
    if kind == b"abort":
        os.abort()
    if kind == b"fault":
        ctypes.string_at(0)
    if kind == b"exit":
        os._exit(0)
    if kind == b"raise":
        raise ValueError
    if kind == b"memory":
        try:
            return b"enough" if len(bytearray(int(rest) << 20)) else b""
        except MemoryError:
            return b"too much"
    while kind == b"loop":
        time.sleep(0.01)
    if kind == b"power":
        return str(9 ** (9**9))[:1].encode()
    if kind.startswith(b"unread"):
        time.sleep(60)
    return request
