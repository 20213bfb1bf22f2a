"""`HandedTranscripts`: the chats of a bank that another process holds: read here, kept there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from membank_llama.store.registry import Registry

from ..chat_transcripts import ChatTranscripts
from ..transcript_file import ChatTranscript


class HandedTranscripts(ChatTranscripts):
    """The transcripts of one bank.

    Args:
        hand: has the holder keep one.
    """

    def __init__(self, bank: Path, registry: Registry, hand: Callable[[ChatTranscript, float | None], bool]) -> None:
        super().__init__(bank, registry)
        self._hand = hand

    def save(self, chat: ChatTranscript, seen: float | None = None) -> bool:
        """As `ChatTranscripts.save`."""
        return self._hand(chat, seen)
