"""Imported conversations as memories: what was said, kept and left out as of a chat here.

Every conversation has a name of its own, its title where no other has it, so that what stands before and after a turn
is of the same conversation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from membank_llama.core.dialogue_acts import is_evasion
from membank_llama.core.types import NewMemory
from membank_llama.memory.conversation_keys import without_echo, without_thinking
from membank_llama.memory.prompt_block import strip_block
from membank_llama.memory.text_splitting import clean_passages, clean_text
from membank_llama.memory.turn_writer import is_kept
from membank_llama.store.conversation_names import CONVERSATION_ID

from .import_report import EVASIONS, ORDERS, ImportReport
from .imported_conversation import MODEL, ImportedConversation, ImportedMessage

LONGEST_NAME, KEY_SHOWN = 120, 8
UNTIMED = "chats that say no time: that of the import is taken"
_APART = 1e-6
"""Seconds between messages whose times are not known."""


class ConversationNames:
    """Gives names; `taken`: those that the bank has, with the id that the conversation has in the other program."""

    def __init__(self, taken: Mapping[str, str] | None = None) -> None:
        self._taken = dict(taken or {})

    def name(self, conversation: ImportedConversation, kind: str) -> str:
        """The title, or where it is another conversation's the title with the end of the key behind it."""
        key = key_of(conversation)
        title = " ".join(clean_text(conversation.title).split())[:LONGEST_NAME].strip()
        title = title or conversation.key[:LONGEST_NAME] or f"{kind} {key[:KEY_SHOWN]}"
        # ids of one day begin alike
        for name in (title, f"{title} ({key[-KEY_SHOWN:]})", f"{title} ({key})"):
            if self._taken.setdefault(name, key) == key:
                return name
        return f"{title} ({kind} {key})"


def key_of(conversation: ImportedConversation) -> str:
    """What tells a conversation from others: its id, or of one without what it begins with."""
    if conversation.key:
        return clean_text(conversation.key)
    begin = "\0".join(message.text for message in conversation.messages[:2])
    return hashlib.sha256(begin.encode("utf-8", "replace")).hexdigest()[:16]


def kept_memories(
    conversation: ImportedConversation,
    kind: str,
    name: str,
    namespace: str,
    report: ImportReport,
) -> Iterator[NewMemory]:
    """What of a conversation is remembered."""
    metadata = {CONVERSATION_ID: key_of(conversation)}
    before: ImportedMessage | None = None
    when = conversation.when
    if when is None:
        report.remark(UNTIMED, name)
    for message in conversation.messages:
        said = _plain(message)
        if said.said_at is not None:
            when = said.said_at
        elif before is not None and when is not None:
            when += _APART
        if is_kept(said, before):
            for passage in clean_passages(said.text):
                yield NewMemory(passage, metadata, said.role, namespace, name, when, kind)
        elif said.text.strip():
            report.leave_out(EVASIONS if said.role == MODEL and is_evasion(said.text) else ORDERS, name)
        before = said


def _plain(message: ImportedMessage) -> ImportedMessage:
    """A message without what a model thought, and without what was recalled for it."""
    text = strip_block(message.text)
    if message.role == MODEL:
        text = without_echo(without_thinking(text))
    return ImportedMessage(text, message.role, message.said_at)
