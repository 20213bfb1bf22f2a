"""`ConversationTracker`: which conversation a request goes on, and which of its turns are new.

The longest beginning of a request whose key is known names its conversation. Keys are kept with the bank, salted, so
that a turn is taken in once: not again after a restart, and not again after it was forgotten.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from membank_llama.memory.conversation_keys import ConversationKeys, ConversationTurn, start_key
from membank_llama.store.database import Database
from membank_llama.store.registry import Registry
from membank_llama.store.turns import KnownTurn, TurnTable

RECENT = 65_536
AGAIN_SECONDS = 3600.0
"""How long a first message that is sent alone again still belongs to its short conversation."""


@dataclass(frozen=True)
class RecognisedConversation:
    """A request's conversation, its keys, and those of its turns that were never taken in; `again`: the message that
    is to be answered, where it came before: sent once more, or said in another chat that begins like one before."""

    conversation: str
    keys: ConversationKeys
    fresh: tuple[ConversationTurn, ...]
    again: ConversationTurn | None = None


class ConversationTracker:
    """The turns that one bank has taken in, and those on their way into it."""

    def __init__(self, registry: Registry) -> None:
        self._table = TurnTable(registry)
        self._salt = self._table.open()
        self._recent: OrderedDict[bytes, KnownTurn] = OrderedDict()
        self._depths: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def recognise(
        self, namespace: str, messages: Sequence[Mapping[str, Any]], context: bytes | None = None
    ) -> RecognisedConversation:
        """What is known of a request; whatever is new in it belongs to the conversation from now on.

        Args:
            context: of a generate call that goes on from another, what that one gave back.
        """
        found = ConversationKeys.of(messages, namespace, salt=self._salt, context=context)
        keys = [turn.key for turn in found.turns]
        if context:
            keys.insert(0, found.start)
        known = self._known(keys)
        conversation = next((known[key].conversation for key in reversed(keys) if key in known), None)
        if len(found.turns) == 1 and context is None and conversation is not None and self._is_over(known[keys[0]]):
            # all of it is said anew
            conversation, known = None, {}
        if conversation is None:
            conversation = f"proxy-{uuid.uuid4().hex[:12]}"
        fresh = tuple(turn for turn in found.turns if turn.key not in known)
        last = found.turns[-1] if found.turns else None
        again = last if last is not None and last.role == "user" and last.key in known else None
        return RecognisedConversation(conversation, found, fresh, again)

    def context_key(self, namespace: str, context: bytes) -> bytes:
        """The key under which a generate call is gone on from."""
        return start_key(self._salt, namespace, context)

    def note(self, conversation: str, keys: Iterable[tuple[bytes, int]]) -> None:
        """These turns are known from now on; `keep` makes that last."""
        now = time.time()
        with self._lock:
            for key, depth in keys:
                self._recent[key] = KnownTurn(conversation, depth, now)
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

    def keep(self, turns: Iterable[tuple[str, bytes, int]], db: Database | None = None) -> None:
        """Write (conversation, key, depth) down; in the transaction that `db` is in, as one step with all else in
        it."""
        self._table.add(turns, db)

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, KnownTurn]:
        with self._lock:
            known = {key: self._recent[key] for key in keys if key in self._recent}
        missing = [key for key in keys if key not in known]
        return known | self._table.find(missing) if missing else known

    def _is_over(self, first: KnownTurn) -> bool:
        """Whether a conversation has gone on beyond its first answer, or was long ago: it begins anew."""
        conversation, _, seen = first
        if time.time() - seen > AGAIN_SECONDS:
            return True
        with self._lock:
            recent = self._depths.get(conversation, 0)
        return max(recent, self._table.depth(conversation)) > 2
