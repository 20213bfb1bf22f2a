"""Values that cross module borders: frozen, without I/O.

Times are seconds since the Unix epoch, UTC. Vectors are float32; a batch has shape ``(n, dim)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .provenance import Provenance, provenance_of

Vector: TypeAlias = npt.NDArray[np.float32]
"""One vector, shape ``(dim,)``, or a batch, shape ``(n, dim)``; float32."""

Codes: TypeAlias = npt.NDArray[np.uint8]
"""Encoded vectors of one level, shape ``(n, nbytes)``; uint8."""

Ids: TypeAlias = npt.NDArray[np.int64]
"""Ids of memories, shape ``(n,)``."""

Rows: TypeAlias = npt.NDArray[np.intp]
"""Places in a `NamespaceSnapshot`, shape ``(n,)``; -1 where there is none."""

Times: TypeAlias = npt.NDArray[np.float64]
Numbers: TypeAlias = npt.NDArray[np.int32]
Mask: TypeAlias = npt.NDArray[np.bool_]

Spans: TypeAlias = tuple[tuple[int, int], ...]
"""The passages of a text, in characters: where each begins and the next one does; together all of it."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as ``progress(label, done, total)`` by long work."""

DEFAULT_NAMESPACE = "default"
LEVELS = (0, 1, 2)


class Fields:
    """Lets a dataclass be read like the dicts of the seed's API: ``result["name"]``."""

    def keys(self) -> Iterator[str]:
        return (f.name for f in fields(self))  # type: ignore[arg-type]

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        return getattr(self, name)


@dataclass(frozen=True)
class NewMemory:
    """A memory about to be stored. `created_at` of None means now."""

    text: str
    metadata: Mapping[str, Any] | None = None
    role: str = "user"
    namespace: str = DEFAULT_NAMESPACE
    conversation: str | None = None
    created_at: float | None = None
    source: str | None = None
    pinned: bool = False
    expires_at: float | None = None


@dataclass(frozen=True)
class Memory:
    """A stored memory, as the registry holds it. Told more than once, it is of the last time: `created_at` is when that
    was, and `first_told_at` when it came first."""

    id: int
    text: str
    text_hash: str
    role: str
    namespace: str
    conversation: str | None
    created_at: float
    source: str | None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pinned: bool = False
    expires_at: float | None = None
    slot: int = -1
    first_told_at: float = 0.0

    @property
    def provenance(self) -> Provenance:
        """Where it is from, and so what it is worth."""
        return provenance_of(self.role, self.source, self.metadata)


class TokenCounter(Protocol):
    """The tokenizer of the model that answers: what a prompt costs, and which texts would be control tokens in it."""

    @property
    def n_ctx(self) -> int: ...
    @property
    def controls(self) -> Sequence[str | re.Pattern[str]]: ...
    def count(self, text: str) -> int: ...
    def is_clean(self, text: str) -> bool: ...
