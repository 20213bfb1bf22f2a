"""`TokenRuns`: the digits of the tokens of a bank's activations (hgns/token_codes.py), in a file of their own.

A text has as many tokens as it has, so an activation's tokens are a run of rows in ``tokens-N.bin``, which is laid out
as the activation file is (activations.py). Which rows they are, and the pointer that names their bytes, stands in the
table `tokens` by the slot of the activation; of a file being filled, in `rewrite_tokens`. Rows are written and flushed
before the transaction that names them ends; rows that were freed are packed away by `membank gc`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlite_utils import Database

from membank_llama.core.errors import BankCorruptError
from membank_llama.core.types import Codes

from .activations import MemMapBuffer
from .database import BankDatabase, chunks
from .pointers import PointerRecord

TOKENS = "tokens"
"""The table in use, the dtype of its pointers, and the key under which the bank names its file."""
NEXT_TOKENS = "rewrite_tokens"
LEVEL = 1


@dataclass(frozen=True)
class TokenRun:
    """Where the tokens of one activation lie, in rows of the file, and the packed pointer to their bytes."""

    first: int
    count: int
    pointer: bytes


NOTHING = TokenRun(0, 0, b"")


def _run_of(first: object, count: object, pointer: object) -> TokenRun:
    if not (isinstance(first, int) and isinstance(count, int) and first >= 0 and count >= 0):
        raise BankCorruptError("a run of tokens lies nowhere: the database is damaged; membank reencode mends it")
    return TokenRun(first, count, pointer if isinstance(pointer, bytes) else b"")


def token_digests(runs: Sequence[Codes]) -> list[bytes]:
    """SHA-256 of the tokens of each of some activations, as their pointers have it."""
    return [hashlib.sha256(np.ascontiguousarray(run).data).digest() for run in runs]


class TokenRuns:
    """The runs of one file. `table` is `TOKENS`, or `NEXT_TOKENS` of a file that is being filled."""

    def __init__(self, registry: BankDatabase, buffer: MemMapBuffer, table: str = TOKENS) -> None:
        self._registry = registry
        self.buffer = buffer
        self._table = table

    def add(self, db: Database, slots: Sequence[int], runs: Sequence[Codes], *, dim: int, model_id: str) -> None:
        """Write the tokens of some activations, uint8 (count, row bytes) each, in the transaction that `db` is in."""
        if not slots:
            return
        self.blank(slots)
        first, rows = self.next_row(), []
        written = np.concatenate(runs)
        self.buffer.write(first, written)
        self.buffer.flush()
        for slot, run in zip(slots, runs, strict=True):
            data = run.reshape(-1)
            where = self.buffer.offset(first)
            pointer = PointerRecord.of(data, offset=where, dims=dim, dtype=TOKENS, level=LEVEL, model_id=model_id)
            rows.append((slot, first, len(run), pointer.pack()))
            first += len(run)
        db.conn.executemany(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?, ?, ?)", rows)

    def next_row(self) -> int:
        """The first row that no run holds and none behind it."""
        rows = self._registry.rows(f"SELECT first, count, pointer FROM {self._table} ORDER BY first DESC LIMIT 1")
        last = _run_of(*rows[0]) if rows else NOTHING
        return last.first + last.count

    def garbage(self) -> int:
        """Rows of the file that nothing needs."""
        return self.next_row() - int(self._registry.scalar(f"SELECT coalesce(sum(count), 0) FROM {self._table}"))

    def of(self, slots: Iterable[int]) -> dict[int, TokenRun]:
        """slot → the run of its activation, for those that have one.

        Raises:
            BankCorruptError: what is recorded is no run.
        """
        found: dict[int, TokenRun] = {}
        for marks, piece in chunks(slots):
            sql = f"SELECT first, count, pointer, slot FROM {self._table} WHERE slot IN ({marks})"
            found.update((row[3], _run_of(*row[:3])) for row in self._registry.rows(sql, piece))
        return found

    def read(self, first: npt.NDArray[np.int64], counts: npt.NDArray[np.int32]) -> Codes:
        """The rows of some runs, one run after the other, (sum of counts, row bytes).

        Raises:
            BankCorruptError: the file ends before.
        """
        ends = np.cumsum(counts, dtype=np.int64)
        rows = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(first - ends + counts, counts)
        return self.buffer.rows(rows)

    def runs(self, slots: Sequence[int]) -> list[Codes]:
        """The tokens of some activations, in their order; none of those that have no run."""
        known = self.of(slots)
        found = [known.get(slot, NOTHING) for slot in slots]
        counts = np.array([run.count for run in found], np.int32)
        rows = self.read(np.array([run.first for run in found], np.int64), counts)
        return np.split(rows, np.cumsum(counts)[:-1])

    def blank(self, slots: Iterable[int]) -> None:
        """Overwrite the tokens of some activations, down to the disk, and forget where they were."""
        runs = self.of(slots)
        if not runs:
            return
        held = self.buffer.n_slots
        rows = [row for run in runs.values() for row in range(run.first, min(run.first + run.count, held))]
        if rows:
            self.buffer.blank(rows)
        with self._registry.transaction() as db:
            for marks, piece in chunks(runs):
                db.execute(f"DELETE FROM {self._table} WHERE slot IN ({marks})", piece)

    def problems(self, slot: int, run: TokenRun | None, tag: bytes) -> list[str]:
        """What is wrong with the run of one activation, a sentence each."""
        if run is None:
            return ["tokens: none are recorded; membank reencode mends it"]
        try:
            pointer = PointerRecord.unpack(run.pointer)
            if pointer.offset != self.buffer.offset(run.first) or pointer.nbytes != run.count * self.buffer.slot_bytes:
                return ["tokens: pointer leads elsewhere"]
            if pointer.model != tag or pointer.dtype != TOKENS:
                return ["tokens: pointer tells of other tokens"]
            rows = self.read(np.array([run.first], np.int64), np.array([run.count], np.int32))
            if not pointer.matches(rows.reshape(-1)):
                return ["tokens: bytes do not match their SHA-256; membank reencode mends it"]
        except BankCorruptError as exc:
            return [f"tokens: {exc}"]
        return []
