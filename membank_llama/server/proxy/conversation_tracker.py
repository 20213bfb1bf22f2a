"""Which conversation a request goes on, and which of its turns are known already.

Clients send their whole history with every call and say nothing of whose it is. Every turn has a key, a hash of all
turns up to it; the longest beginning of a request whose key is known names its conversation. The keys are kept with the
bank, salted, so that a turn is taken in once: not again after a restart, and not again after it was forgotten.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from membank_llama.core.errors import BankCorruptError
from membank_llama.memory.prompt_block import strip_block
from membank_llama.memory.prompt_injection import text_of, without_echo
from membank_llama.store.database import chunks
from membank_llama.store.registry import Registry
from membank_llama.store.schema import TURNS

from .reply_reader import without_thinking

SALT = "turns_salt"
RECENT = 65_536
AGAIN_SECONDS = 3600.0
"""How long a first message that is sent alone again still belongs to its short conversation."""
KEPT_SECONDS = 180 * 86_400.0


@dataclass(frozen=True)
class Turn:
    """A turn of a request: who said what, its key, and how many came before it."""

    role: str
    text: str
    key: bytes
    depth: int


@dataclass(frozen=True)
class Recognised:
    """A request's conversation, and those of its turns that were never taken in."""

    conversation: str
    fresh: tuple[Turn, ...]
    last_key: bytes
    depth: int


class Conversations:
    """The turns that one bank has taken in."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        with registry.transaction() as db:
            for statement in TURNS:
                db.execute(statement)
            db.execute("DELETE FROM turns WHERE seen < ?", (time.time() - KEPT_SECONDS,))
            self._salt = _kept_salt(registry)
            if not self._salt:
                self._salt = secrets.token_bytes(16)
                registry.set_meta(SALT, self._salt.hex())
        self._recent: OrderedDict[bytes, tuple[str, int, float]] = OrderedDict()
        self._depths: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def recognise(
        self, namespace: str, messages: Sequence[Mapping[str, Any]], context: bytes | None = None
    ) -> Recognised:
        """What is known of a request; whatever is new in it belongs to the conversation from now on.

        Args:
            context: of a generate call that goes on from another, what that one gave back.
        """
        start = self._key(self._salt, namespace, context.decode() if context else "")
        turns = self._turns(start, messages)
        keys = [start, *(turn.key for turn in turns)] if context else [turn.key for turn in turns]
        known = self._known(keys)
        conversation = next((known[key][0] for key in reversed(keys) if key in known), None)
        if len(turns) == 1 and context is None and conversation is not None and self._is_over(known[turns[0].key]):
            # all of it is said anew
            conversation, known = None, {}
        if conversation is None:
            conversation = f"proxy-{uuid.uuid4().hex[:12]}"
        fresh = tuple(turn for turn in turns if turn.key not in known)
        last = turns[-1] if turns else Turn("", "", start, 0)
        return Recognised(conversation, fresh, last.key, last.depth)

    def reply(self, recognised: Recognised, text: str) -> Turn:
        """The turn that a reply is; what comes next will hold it."""
        key = self._key(recognised.last_key, "assistant", _plain(text))
        return Turn("assistant", text, key, recognised.depth + 1)

    def context_key(self, namespace: str, context: bytes) -> bytes:
        """The key under which a generate call is gone on from."""
        return self._key(self._salt, namespace, context.decode())

    def note(self, conversation: str, keys: Iterable[tuple[bytes, int]]) -> None:
        """These turns are known from now on; `keep` makes that last."""
        now = time.time()
        with self._lock:
            for key, depth in keys:
                self._recent[key] = conversation, depth, now
                self._recent.move_to_end(key)
                self._depths[conversation] = max(depth, self._depths.get(conversation, 0))
                self._depths.move_to_end(conversation)
            for kept in (self._recent, self._depths):
                while len(kept) > RECENT:
                    kept.popitem(last=False)

    def forget(self, keys: Iterable[bytes]) -> None:
        """These could not be stored: they are new when they come again."""
        with self._lock:
            for key in keys:
                self._recent.pop(key, None)

    def keep(self, turns: Iterable[tuple[str, bytes, int]]) -> None:
        """Write (conversation, key, depth) down; within a transaction, as one step with all else in it."""
        now = time.time()
        with self._registry.transaction() as db:
            db.conn.executemany(
                "INSERT OR REPLACE INTO turns VALUES (?, ?, ?, ?)",
                [(key, conversation, depth, now) for conversation, key, depth in turns],
            )

    def _turns(self, start: bytes, messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
        turns: list[Turn] = []
        key = start
        for message in messages:
            role, text = str(message.get("role")), strip_block(text_of(message.get("content")))
            if role == "assistant":
                text = without_echo(without_thinking(text))
            if role in ("user", "assistant") and text.strip():
                key = self._key(key, role, _plain(text))
                turns.append(Turn(role, text, key, len(turns) + 1))
        return turns

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, tuple[str, int, float]]:
        with self._lock:
            known = {key: self._recent[key] for key in keys if key in self._recent}
        for marks, some in chunks([key for key in keys if key not in known]):
            rows = self._registry.rows(f"SELECT key, conversation, depth, seen FROM turns WHERE key IN ({marks})", some)
            known |= {bytes(key): (name, depth, seen) for key, name, depth, seen in rows}
        return known

    def _is_over(self, first: tuple[str, int, float]) -> bool:
        """Whether a conversation has gone on beyond its first answer, or was long ago: it begins anew."""
        conversation, _, seen = first
        if time.time() - seen > AGAIN_SECONDS:
            return True
        with self._lock:
            recent = self._depths.get(conversation, 0)
        kept = self._registry.scalar("SELECT max(depth) FROM turns WHERE conversation = ?", (conversation,)) or 0
        return max(recent, int(kept)) > 2

    @staticmethod
    def _key(before: bytes, *parts: str) -> bytes:
        digest = hashlib.sha256(before)
        for part in parts:
            digest.update(b"\0" + part.encode("utf-8", "replace"))
        return digest.digest()[:16]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _kept_salt(registry: Registry) -> bytes:
    """The salt that the bank keeps; none where it is damaged: then turns are taken in once more."""
    try:
        return bytes.fromhex(registry.get_meta(SALT, ""))
    except (BankCorruptError, TypeError, ValueError):
        return b""
