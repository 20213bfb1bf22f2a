"""Arguments and results as JSON and back, so that what a call gets and gives is the same in either process.

What JSON has goes as it is. Tuples, sets, the package's own values and dicts with other keys than texts are written as
an object whose one key begins with a dollar sign; whatever else can be gone through becomes a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Memory, NewMemory
from membank_llama.recall.signals import Weights

from ..bank_undo import Change
from ..imports.import_records import ImportRecord
from ..ingest_results import IngestResult
from ..prompt_block import Block
from ..transcript_file import ChatTranscript

_KINDS = (Block, Change, ChatTranscript, ImportRecord, IngestResult, Memory, NewMemory, Weights)
VALUES: dict[str, type] = {kind.__name__: kind for kind in _KINDS}
"""The package's own values that may be passed: frozen dataclasses."""

MOST_BYTES_AT_ONCE = 8 << 20
"""Of text, in what is handed over at once."""
_MARK = "$"


def to_json(value: Any) -> Any:
    """A value of a call as JSON has it.

    Raises:
        InvalidInputError: it is of a kind that cannot be passed.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    kind = type(value).__name__
    if is_dataclass(value) and VALUES.get(kind) is type(value):
        return {f"{_MARK}{kind}": {field.name: to_json(getattr(value, field.name)) for field in fields(value)}}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith(_MARK) for key in value):
            return {key: to_json(item) for key, item in value.items()}
        return {f"{_MARK}map": [[to_json(key), to_json(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {f"{_MARK}tuple": [to_json(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {f"{_MARK}set": [to_json(item) for item in value]}
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return [to_json(item) for item in value]
    raise InvalidInputError(f"a {kind} cannot be handed to the process that holds the bank; use plain values")


def from_json(value: Any) -> Any:
    """What `to_json` was given.

    Raises:
        ValueError, TypeError: it never gave this.
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    mark = next(iter(value), "")
    if len(value) != 1 or not mark.startswith(_MARK):
        return {key: from_json(item) for key, item in value.items()}
    held = value[mark]
    if mark == "$map":
        return {from_json(key): from_json(item) for key, item in held}
    if mark == "$tuple":
        return tuple(from_json(item) for item in held)
    if mark == "$set":
        return {from_json(item) for item in held}
    kind = VALUES.get(mark[1:])
    if kind is None:
        raise ValueError(f"there is no value called {mark[1:40]!r}")
    return kind(**{name: from_json(item) for name, item in held.items()})


def handed_batches(items: Iterable[str | NewMemory], most: int) -> Iterable[list[NewMemory]]:
    """The items in batches that can be handed over at once."""
    batch: list[NewMemory] = []
    size = 0
    for item in items:
        new = item if isinstance(item, NewMemory) else NewMemory(item)
        length = len(new.text) if isinstance(new.text, str) else 0
        if batch and (len(batch) == most or size + length > MOST_BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(new)
        size += length
    if batch:
        yield batch
