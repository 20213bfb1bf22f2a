"""The file that hnswlib saves, as far as forgetting needs it: where each vector lies.

Layout of hnswlib 0.8 (`HierarchicalNSW::saveIndex`), native byte order: a head, then for each element its links at
level 0, its vector and its label, then the links at upper levels. We add labels in rising order only, so they stand so
in the file.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .errors import BankCorruptError

# offset_level0, max_elements, count, element_bytes, label_offset, vector_offset; max_level, entry point;
# maxM, maxM0, M, mult, ef_construction
_HEAD = struct.Struct("@6Q2i3QdQ")
_LABEL_BYTES = 8
_MARK_AT, _DELETED = 2, b"\x01"
"""Where in an element's links hnswlib notes that it is deleted, and how."""


def blank_vectors(path: Path, labels: Iterable[int]) -> list[int]:
    """Mark these labels as deleted and overwrite their vectors with zeros, down to the disk; returns those held.

    Raises:
        BankCorruptError: the file is no saved index.
        OSError: the system refused.
    """
    with path.open("r+b") as file:
        head = file.read(_HEAD.size)
        size = os.fstat(file.fileno()).st_size
        if len(head) < _HEAD.size:
            raise BankCorruptError(f"{path} is cut")
        links_at, _, count, stride, label_at, vector_at, *_ = _HEAD.unpack(head)
        sound = (
            links_at + _MARK_AT < vector_at < label_at
            and label_at + _LABEL_BYTES <= stride
            and _HEAD.size + count * stride <= size
        )
        if not sound:
            raise BankCorruptError(f"{path} is damaged")
        if not count:
            return []
        elements = np.memmap(path, np.uint8, "r", _HEAD.size, (count, stride))
        held = elements[:, label_at : label_at + _LABEL_BYTES].view(np.uint64)[:, 0]
        blanked = []
        for label in labels:
            row = bisect_left(held, label)
            if row < count and int(held[row]) == label:
                element = _HEAD.size + row * stride
                file.seek(element + links_at + _MARK_AT)
                file.write(_DELETED)
                file.seek(element + vector_at)
                file.write(bytes(label_at - vector_at))
                blanked.append(label)
        file.flush()
        os.fsync(file.fileno())
    return blanked
