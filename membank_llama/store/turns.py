"""`TurnTable`: which turns of conversations a bank has taken in, by key, so that each is taken in once.

Keys are hashes (memory/conversation_keys.py) with a salt that the bank keeps. A turn stays known for `KEPT_SECONDS`,
also after what it said was forgotten.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlite_utils import Database

from membank_llama.core.errors import BankCorruptError

from .database import chunks
from .registry import Registry

SALT = "turns_salt"
KEPT_SECONDS = 180 * 86_400.0


class KnownTurn(NamedTuple):
    """A turn that was taken in: its conversation, how many turns that had with it, and when it was last seen."""

    conversation: str
    depth: int
    seen: float


class TurnTable:
    """The table `turns` of one bank."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def open(self) -> bytes:
        """Drop what is too old; returns the salt, a new one where the bank has none."""
        with self._registry.transaction() as db:
            db.execute("DELETE FROM turns WHERE seen < ?", (time.time() - KEPT_SECONDS,))
            salt = self._salt()
            if not salt:
                salt = secrets.token_bytes(16)
                self._registry.set_meta(SALT, salt.hex())
        return salt

    def _salt(self) -> bytes:
        """The salt that the bank keeps; none where it is damaged: then turns are taken in once more."""
        try:
            return bytes.fromhex(self._registry.get_meta(SALT, ""))
        except (BankCorruptError, TypeError, ValueError):
            return b""

    def find(self, keys: Sequence[bytes]) -> dict[bytes, KnownTurn]:
        """Those of these keys that are known."""
        known: dict[bytes, KnownTurn] = {}
        for marks, some in chunks(keys):
            rows = self._registry.rows(f"SELECT key, conversation, depth, seen FROM turns WHERE key IN ({marks})", some)
            known |= {bytes(key): KnownTurn(name, depth, seen) for key, name, depth, seen in rows}
        return known

    def depth(self, conversation: str) -> int:
        """Turns of a conversation; 0 where it is not known."""
        found = self._registry.scalar("SELECT max(depth) FROM turns WHERE conversation = ?", (conversation,))
        return int(found or 0)

    def add(self, turns: Iterable[tuple[str, bytes, int]], db: Database | None = None) -> None:
        """Write (conversation, key, depth) down, in the transaction that `db` is in where one is."""
        if db is None:
            with self._registry.transaction() as own:
                self.add(turns, own)
            return
        now = time.time()
        db.conn.executemany(
            "INSERT OR REPLACE INTO turns VALUES (?, ?, ?, ?)",
            [(key, conversation, depth, now) for conversation, key, depth in turns],
        )
