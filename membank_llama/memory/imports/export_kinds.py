"""Which program wrote a JSON document: told by its shape, whatever the file is called."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from membank_llama.core.types import NewMemory

from .chatgpt_export import is_chatgpt, read_chatgpt
from .claude_export import is_claude, read_claude
from .import_report import ImportReport
from .imported_conversation import ConversationReader, ImportedConversation, list_field
from .lm_studio_export import is_lm_studio, read_lm_studio
from .memory_exports import ENGRAM, MEM0, is_engram, memory_list, read_engram, read_memory_list, storable
from .message_list_export import is_message_list, read_message_lists
from .open_webui_export import is_open_webui, read_open_webui


@dataclass(frozen=True)
class FoundExport:
    """What one file holds: conversations, or memories as they are."""

    kind: str
    file: str
    conversations: tuple[ImportedConversation, ...] = ()
    memories: tuple[NewMemory, ...] = ()


@dataclass(frozen=True)
class ChatFormat:
    """How a program's conversations are known, and read."""

    kind: str
    is_entry: Callable[[Any], bool]
    read: ConversationReader


CHATS = (
    ChatFormat("chatgpt", is_chatgpt, read_chatgpt),
    ChatFormat("claude", is_claude, read_claude),
    ChatFormat("open-webui", is_open_webui, read_open_webui),
    ChatFormat("lm-studio", is_lm_studio, read_lm_studio),
    ChatFormat("messages", is_message_list, read_message_lists),
)
TITLES = {
    "chatgpt": "ChatGPT", "claude": "Claude", "open-webui": "Open WebUI", "lm-studio": "LM Studio", "ollama": "Ollama",
    "mem0": "mem0", "engram": "engram", "messages": "lists of messages", "markdown": "notes in Markdown",
    "membank": "JSON Lines",
}  # fmt: skip
"""What people call them."""
KNOWN = (
    "JSON Lines of membank export, conversations of ChatGPT, Claude, Open WebUI, LM Studio and Ollama (as files or in "
    "the zip they come in), memories of mem0 and engram, and notes in Markdown"
)


def read_document(document: Any, name: str, report: ImportReport) -> FoundExport | None:
    """What a parsed document holds; None where it is of no program that is known."""
    if is_engram(document):
        return FoundExport(ENGRAM, name, memories=tuple(storable(read_engram(document, name, report))))
    entries = _entries(document)
    for chats in CHATS:
        if any(map(chats.is_entry, entries)):
            return FoundExport(chats.kind, name, conversations=tuple(chats.read(entries, name, report)))
    if listed := memory_list(document):
        return FoundExport(MEM0, name, memories=tuple(storable(read_memory_list(listed, name, report))))
    return None


def _entries(document: Any) -> list[Any]:
    if isinstance(document, list):
        return [document] if is_message_list(document) else document
    return list_field(document, "conversations") or list_field(document, "chats") or [document]


def parse_document(text: str) -> Any:
    """A document of JSON, or a list of those that stand a line each; None of any other text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return _loaded(text)
    except ValueError:
        return _lines(text.split("\n"))


def json_damage(text: str) -> str | None:
    """What is wrong with a document of JSON; None of one that is whole, and of several behind each other."""
    try:
        _loaded(text)
    except ValueError as error:
        several = isinstance(error, json.JSONDecodeError) and error.msg == "Extra data"
        return None if several else str(error)
    return None


def _loaded(text: str) -> Any:
    try:
        # what Python writes for a number that is none is not JSON, and could not be stored
        return json.loads(text, parse_constant=lambda _: None)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _lines(lines: Sequence[str]) -> list[Any] | None:
    documents = []
    for line in lines:
        if not line.strip():
            continue
        try:
            documents.append(_loaded(line))
        except ValueError:
            return None
        if not any(chats.is_entry(documents[-1]) for chats in CHATS):
            return None
    return documents
