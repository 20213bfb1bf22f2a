"""When two GGUF files are the same model: a hash of what determines the vectors, never of the file's name or date."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from .header import GGUFHeader, mapped, read_header
from .split_files import parts_of

_BLOCK = 4096
_BLOCKS = 16


def fingerprint(path: str | Path) -> str:
    """64 hex digits that name the model: sha256 over its settings, tensor table and sampled tensor bytes.

    Reads a few hundred KiB, however large the file is. All parts of a split model are taken in. The chat
    template, the name and other descriptions do not count: they change no vector.
    """
    digest = hashlib.sha256()
    for part in parts_of(Path(path)):
        header = read_header(part)
        digest.update(repr((header.architecture, sorted(_settings(header)))).encode())
        for tensor in header.tensors:
            digest.update(f"\n{tensor.name} {tensor.shape} {tensor.type}".encode())
        with mapped(part) as data:
            for start, end in _samples(header):
                digest.update(data[start:end])
    return digest.hexdigest()


def _settings(header: GGUFHeader) -> Iterator[tuple[str, str]]:
    """What beside the tensors decides about the vectors: hyperparameters, and how text becomes tokens."""
    for key, value in header.metadata.items():
        room, _, name = key.rpartition(".")
        if room == "tokenizer.ggml":
            counts = name in ("model", "pre") or name.startswith("add_")
        else:
            counts = room.split(".")[0] == header.architecture and name not in ("context_length", "vocab_size")
        if counts:
            yield key, repr(value)


def _samples(header: GGUFHeader) -> Iterator[tuple[int, int]]:
    """Byte ranges to hash: evenly spread blocks, and both ends of some tensors."""
    first, last = header.data_start, header.file_size
    for n in range(_BLOCKS):
        start = first + (last - first - _BLOCK) * n // (_BLOCKS - 1)
        yield max(first, start), min(last, max(first, start) + _BLOCK)
    every = max(1, len(header.tensors) // 64)
    for tensor in header.tensors[::every]:
        end = tensor.offset + tensor.nbytes
        yield tensor.offset, min(tensor.offset + 256, last)
        yield max(tensor.offset, end - 256), end
