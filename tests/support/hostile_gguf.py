"""GGUF files taken apart and put together again with something in them changed, for what a stranger may send."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
UINT32, INT32, FLOAT32 = 4, 5, 6


@dataclass
class Parts:
    """A file in its parts: key → (type, value), of an array the value is (type, list); tensors as lists."""

    values: dict[str, tuple[int, Any]] = field(default_factory=dict)
    tensors: list[list[Any]] = field(default_factory=list)
    data: bytes = b""

    def set(self, key: str, value: Any, kind: int | None = None) -> None:
        """Give a key another value, of the type it has unless told."""
        known = self.values.get(key, (UINT32, None))[0]
        self.values[key] = (known if kind is None else kind, value)

    def array(self, key: str) -> list[Any]:
        """The list under a key, to be changed in place."""
        values: list[Any] = self.values[key][1][1]
        return values


def take_apart(path: Path) -> Parts:
    """Read a sound file."""
    data, at = path.read_bytes(), 8

    def take(code: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize("<" + code)
        return value

    def text() -> bytes:
        nonlocal at
        length = take("Q")
        at += length
        return data[at - length : at]

    def value(kind: int) -> Any:
        if kind == STRING:
            return text()
        if kind == ARRAY:
            inner, count = take("I"), take("Q")
            return inner, [value(inner) for _ in range(count)]
        return take(_SCALARS[kind])

    n_tensors, n_values = take("Q"), take("Q")
    parts = Parts()
    for _ in range(n_values):
        key, kind = text().decode(), take("I")
        parts.values[key] = (kind, value(kind))
    for _ in range(n_tensors):
        name, n_dims = text().decode(), take("I")
        parts.tensors.append([name, [take("Q") for _ in range(n_dims)], take("I"), take("Q")])
    parts.data = data[-(-at // 32) * 32 :]
    return parts


def put_together(parts: Parts, path: Path) -> Path:
    """Write a file."""
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(parts.tensors), len(parts.values)))

    def put(kind: int, value: Any) -> None:
        if kind == STRING:
            raw = value if isinstance(value, bytes) else value.encode()
            out.extend(struct.pack("<Q", len(raw)) + raw)
        elif kind == ARRAY:
            out.extend(struct.pack("<IQ", value[0], len(value[1])))
            for one in value[1]:
                put(value[0], one)
        else:
            out.extend(struct.pack("<" + _SCALARS[kind], value))

    for key, (kind, value) in parts.values.items():
        put(STRING, key)
        out.extend(struct.pack("<I", kind))
        put(kind, value)
    for name, shape, kind, offset in parts.tensors:
        put(STRING, name)
        out.extend(struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
    out.extend(b"\0" * (-len(out) % 32))
    path.write_bytes(bytes(out) + parts.data)
    return path


def changed(source: Path, target: Path, change: Callable[[Parts], object]) -> Path:
    """A copy of a file with something changed in it."""
    parts = take_apart(source)
    change(parts)
    return put_together(parts, target)
